//! Foreign mail servers, unpacked from Debian's packages by tests/peers.sh, each behind a script in the test's folder that gives it
//! what its package would have installed; the chain's own environment stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::folder::{Folder, NAME};
use crate::programs::{self, skip};

/// Makes `./smtpfront-qmail` (mailfront), which offers AUTH PLAIN and LOGIN to the user `user` with the password `secret`, or counts
/// a skip and gives false.
pub fn mailfront(folder: &Folder) -> bool {
    let Some(root) = unpacked("mailfront") else { return false };
    folder.write("passwords", "user:secret:1000:1000::/:/bin/sh\n");
    let settings = format!(
        "LD_LIBRARY_PATH={root}/usr/lib MODULE_PATH={root}/usr/lib/mailfront \
         CVM_SASL_PLAIN={root}/usr/bin/cvm-pwfile CVM_PWFILE_PATH={}",
        folder.text("passwords"),
    );
    script(folder, "smtpfront-qmail", &settings, &format!("{root}/usr/sbin/smtpfront-qmail"));
    true
}

/// Makes `./checkpassword` (cvm's, with a password file), which knows mailfront's user and becomes uid 1000 (root only), or counts a
/// skip and gives false.
pub fn checkpassword(folder: &Folder) -> bool {
    if !programs::needs_root() {
        return false;
    }
    let Some(root) = unpacked("mailfront") else { return false };
    folder.write("passwords", "user:secret:1000:1000::/:/bin/sh\n");
    let settings =
        format!("LD_LIBRARY_PATH={root}/usr/lib CVM_PWFILE_PATH={}", folder.text("passwords"));
    let bin = format!("{root}/usr/bin");
    script(
        folder,
        "checkpassword",
        &settings,
        &format!("{bin}/cvm-checkpassword {bin}/cvm-pwfile"),
    );
    true
}

/// Makes `./exim` (to be called with -bs; root only), which takes mail for everyone into its queue, or counts a skip and gives false.
pub fn exim(folder: &Folder) -> bool {
    if !programs::needs_root() {
        return false;
    }
    let Some(root) = unpacked("exim4") else { return false };
    let home = folder.text("");
    for name in ["exim4/spool", "exim4/log"] {
        fs::create_dir_all(folder.path(name)).expect("make Exim's folders");
    }
    folder.give("exim4");
    folder.write("exim4/passwd", "root:x:0:0::/:/bin/sh\nDebian-exim:x:65534:65534::/:/bin/sh\n");
    folder.write("exim4/group", "root:x:0:\nDebian-exim:x:65534:\n");
    let tls = format!("tls_certificate = {home}/cert.pem\ntls_privatekey = {home}/cert.key\n");
    folder.write(
        "exim4/conf",
        format!(
            "primary_hostname = {NAME}\nspool_directory = {home}/exim4/spool\nlog_file_path = {home}/exim4/log/%s\n\
             keep_environment = LD_* : NSS_WRAPPER_*\nqueue_only\ntls_advertise_hosts = *\n{tls}acl_smtp_rcpt = rcpt\n\
             begin acl\nrcpt:\n  accept\n"
        ),
    );
    let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
    let settings = format!(
        "LD_LIBRARY_PATH={libraries} LD_PRELOAD={libraries}/libnss_wrapper.so \
         NSS_WRAPPER_PASSWD={home}/exim4/passwd NSS_WRAPPER_GROUP={home}/exim4/group"
    );
    script(folder, "exim", &settings, &format!("{root}/usr/sbin/exim4 -C {home}/exim4/conf"));
    true
}

/// Makes `./sendmail` (Postfix, to be called with -bs), which takes mail for NAME into `postfix/queue/maildrop`, `./posttls-finger` and
/// `./smtp-source`, or counts a skip and gives false.
pub fn postfix(folder: &Folder) -> bool {
    let Some(root) = unpacked("postfix") else { return false };
    let home = folder.text("postfix");
    fs::create_dir_all(folder.path("postfix/queue/maildrop")).expect("make Postfix' folders");
    folder.write("postfix/master.cf", "");
    folder.write(
        "postfix/main.cf",
        format!(
            "compatibility_level = 3.6\nqueue_directory = {home}/queue\ndata_directory = {home}\n\
             command_directory = {root}/usr/sbin\ndaemon_directory = {root}/usr/lib/postfix/sbin\n\
             shlib_directory = {root}/usr/lib/postfix\nmail_owner = mail\nsetgid_group = daemon\n\
             import_environment = MAIL_CONFIG LD_LIBRARY_PATH\nexport_environment = MAIL_CONFIG LD_LIBRARY_PATH\n\
             myhostname = {NAME}\nmydestination = {NAME}\nlocal_recipient_maps =\nalias_maps =\nalias_database =\n"
        ),
    );
    let settings = format!("MAIL_CONFIG={home} LD_LIBRARY_PATH={root}/usr/lib/postfix");
    for program in ["sendmail", "posttls-finger", "smtp-source"] {
        script(folder, program, &settings, &format!("{root}/usr/sbin/{program}"));
    }
    true
}

/// What fail2ban-regex prints for these arguments; none, and a counted skip, where it is not there.
pub fn fail2ban() -> Option<impl Fn(&[&str]) -> String> {
    let root = unpacked("fail2ban")?;
    Some(move |arguments: &[&str]| {
        let mut python = Command::new("/usr/bin/python3");
        python.env("PYTHONPATH", format!("{root}/usr/lib/python3/dist-packages"));
        let output = python.arg(format!("{root}/usr/bin/fail2ban-regex")).args(arguments).output();
        let output = output.expect("python3");
        [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
    })
}

/// A folder with the Python package `name` and what it needs, for PYTHONPATH; or a counted skip.
pub fn python(name: &str) -> Option<String> {
    unpacked(name)
}

/// A folder with libssl and libcrypto of OpenSSL 3.5 or newer, for LD_LIBRARY_PATH in front of Debian's openssl; or a counted skip.
pub fn openssl_3_5() -> Option<String> {
    Some(unpacked("openssl")? + "/lib")
}

fn script(folder: &Folder, name: &str, settings: &str, command: &str) {
    folder.script(name, &format!("#!/bin/sh\nexec env {settings} {command} \"$@\"\n"));
}

/// The root folder of the unpacked `package`, or a counted skip.
pub fn unpacked(package: &str) -> Option<String> {
    let peers = env::var_os("CHAINMAIL_PEERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"),
        PathBuf::from,
    );
    let root = peers.join(package);
    match root.join(".complete").exists() {
        true => fs::canonicalize(root).expect("the peer's folder").to_str().map(str::to_owned),
        false => skip(&format!("{package} is not unpacked: run tests/peers.sh")),
    }
}
