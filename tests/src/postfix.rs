//! A whole Postfix that queues mail, delivers it to one of our servers, and tries again when it is told to (root only).

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::Folder;
use crate::{Server, peers, programs};

/// Debian's users of these numbers: Postfix wants two that are not root.
const MAIL: u32 = 8;
const DAEMON: u32 = 1;

/// A running Postfix; dropping it ends it.
#[derive(Debug)]
pub struct Postfix {
    master: Child,
    root: String,
    folder: Folder,
}

impl Postfix {
    /// Starts one that sends all its mail to `server` and retries after a second, with more `settings` in main.cf; or counts a skip.
    pub fn towards(server: &Server, settings: &str) -> Option<Postfix> {
        if !programs::needs_root() {
            return None;
        }
        let root = peers::unpacked("postfix")?;
        let folder = Folder::new();
        let home = folder.text("");
        folder.write("main.cf", main_cf(&root, &home, server) + settings);
        folder.write("master.cf", MASTER);
        for (name, group, mode) in QUEUE {
            let path = folder.path("queue").join(name);
            fs::create_dir_all(&path).expect("make a queue");
            chown(&path, Some(MAIL), Some(*group)).expect("chown a queue");
            fs::set_permissions(&path, Permissions::from_mode(*mode)).expect("chmod a queue");
        }
        chown(folder.path("queue"), Some(0), Some(0)).expect("chown the queues");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", &format!("{root}/usr/lib/postfix/sbin/master")]);
        command.args(["-c", &home, "-d"]).envs(environment(&root, &home));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master = command.spawn().expect("start Postfix");
        Some(Postfix { master, root, folder })
    }

    /// Queues a message.
    pub fn send(&self, sender: &str, recipient: &str, subject: &str) {
        let mut sendmail = Command::new(format!("{}/usr/sbin/sendmail", self.root))
            .args(["-f", sender, recipient])
            .envs(environment(&self.root, &self.folder.text("")))
            .stdin(Stdio::piped())
            .spawn()
            .expect("start sendmail");
        let message = format!("From: <{sender}>\nSubject: {subject}\n\ntext\n");
        let mut input = sendmail.stdin.take().expect("sendmail's input");
        input.write_all(message.as_bytes()).expect("write a message");
        drop(input);
        assert!(sendmail.wait().expect("wait for sendmail").success(), "sendmail failed");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path("maillog")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of Postfix:\n{}", self.log());
        }
        let master = Pid::from_raw(self.master.id().try_into().expect("a pid"));
        kill(master, Signal::SIGTERM).expect("end Postfix");
        self.master.wait().expect("wait for Postfix");
    }
}

fn environment(root: &str, home: &str) -> [(&'static str, String); 2] {
    [("MAIL_CONFIG", home.to_owned()), ("LD_LIBRARY_PATH", format!("{root}/usr/lib/postfix"))]
}

fn main_cf(root: &str, home: &str, server: &Server) -> String {
    let port = server.address().port();
    format!(
        "compatibility_level = 3.6
queue_directory = {home}queue
data_directory = {home}queue/data
command_directory = {root}/usr/sbin
daemon_directory = {root}/usr/lib/postfix/sbin
shlib_directory = {root}/usr/lib/postfix
mail_owner = mail
setgid_group = daemon
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
export_environment = MAIL_CONFIG LD_LIBRARY_PATH
maillog_file = {home}maillog
maillog_file_prefixes = {home}
myhostname = client.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:{port}
smtp_dns_support_level = disabled
smtp_host_lookup = native
alias_maps =
alias_database =
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
"
    )
}

/// The folders of the queue, their groups and modes.
const QUEUE: &[(&str, u32, u32)] = &[
    ("active", 0, 0o700),
    ("bounce", 0, 0o700),
    ("corrupt", 0, 0o700),
    ("data", 0, 0o700),
    ("defer", 0, 0o700),
    ("deferred", 0, 0o700),
    ("flush", 0, 0o700),
    ("hold", 0, 0o700),
    ("incoming", 0, 0o700),
    ("maildrop", DAEMON, 0o730),
    ("pid", 0, 0o755),
    ("private", 0, 0o700),
    ("public", DAEMON, 0o710),
    ("saved", 0, 0o700),
    ("trace", 0, 0o700),
];

/// The daemons that queue and send; nothing that listens.
const MASTER: &str = "pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n - 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";
