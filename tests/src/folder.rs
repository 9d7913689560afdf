//! The folder of one test: control files, a Maildir, certificates; removed unless the test failed.

use std::fs::{self, File, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::programs;

/// The ordinary user of the tests: Debian's `nobody`, as a number.
pub const ORDINARY: u32 = 65534;

/// The name in the certificates and in control/me.
pub const NAME: &str = "mx.test";

/// One test's folder below the system's temporary folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder that everyone may enter, with `control/me` and `control/rcpthosts` (both [`NAME`]) and an empty `Maildir`.
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("chainmail-test.{}.{count}", std::process::id()));
        let folder = Folder { path };
        for name in ["control", "Maildir/tmp", "Maildir/new", "Maildir/cur"] {
            fs::create_dir_all(folder.path.join(name)).expect("make the test's folder");
        }
        folder.write("control/me", format!("{NAME}\n"));
        folder.write("control/rcpthosts", format!("{NAME}\n"));
        fs::set_permissions(&folder.path, Permissions::from_mode(0o755)).expect("chmod");
        if programs::root() {
            folder.give("Maildir");
        }
        folder
    }

    /// The path of `name` inside the folder; the folder itself for "".
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The same as text, for environments and command lines.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().expect("a path in UTF-8")
    }

    /// Writes the file `name`.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap_or_else(|error| panic!("write {name}: {error}"));
    }

    /// Makes files and folders look as if nobody had changed them for an hour.
    pub fn age(&self, names: &[&str]) {
        let old = SystemTime::now() - Duration::from_secs(3600);
        for name in names {
            let file = File::open(self.path(name)).expect("open it");
            file.set_modified(old).expect("set its time back");
        }
    }

    /// Writes the executable script `name` and gives its path.
    pub fn script(&self, name: &str, content: &str) -> String {
        self.write(name, content);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).expect("chmod");
        self.text(name)
    }

    /// The paths below the folder of the files that hold `needle`.
    pub fn find(&self, needle: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("read a folder") {
                let path = entry.expect("read a folder").path();
                if path.is_dir() {
                    folders.push(path);
                } else if fs::read(&path)
                    .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
                {
                    found.push(path.to_string_lossy().into_owned());
                }
            }
        }
        found
    }

    /// Makes `name` and what is below it the ordinary user's (root only).
    pub fn give(&self, name: &str) {
        give(&self.path(name));
    }

    /// Makes `ca.pem` once, then `NAME.pem` (leaf and CA) and `NAME.key` (mode 0600) for these names and addresses.
    pub fn certificate(&self, name: &str, key: Key, hosts: &[&str]) {
        if !self.path("ca.pem").exists() {
            self.openssl(
                &[
                    "req",
                    "-x509",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=test CA",
                    "-keyout",
                    "ca.key",
                    "-out",
                    "ca.pem",
                ],
                Key::P256,
            );
        }
        let (pem, secret) = (format!("{name}.pem"), format!("{name}.key"));
        let subject = format!("/CN={}", hosts[0]);
        let names: Vec<_> = hosts
            .iter()
            .map(|host| match host.parse::<IpAddr>() {
                Ok(address) => format!("IP:{address}"),
                Err(_) => format!("DNS:{host}"),
            })
            .collect();
        let names = format!("subjectAltName={}", names.join(","));
        self.openssl(
            &[
                "req",
                "-x509",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-days",
                "2",
                "-subj",
                &subject,
                "-addext",
                &names,
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-keyout",
                &secret,
                "-out",
                &pem,
            ],
            key,
        );
        let chain = [fs::read(self.path(&pem)), fs::read(self.path("ca.pem"))];
        self.write(&pem, chain.map(|part| part.expect("a certificate")).concat());
        fs::set_permissions(self.path(&secret), Permissions::from_mode(0o600)).expect("chmod");
    }

    /// Makes `dated.pem` and `dated.key`, for NAME and valid between these two times, in date(1)'s words.
    pub fn dated(&self, from: &str, to: &str) {
        self.write("ca.cnf", CA);
        let script = format!(
            "rm -f index serial; : >index; echo 4711 >serial; umask 077
             day() {{ date -u -d \"$1\" +%Y%m%d%H%M%SZ; }}
             openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN={NAME} -keyout dated.key -out dated.csr
             openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -extensions x -notext \\
               -startdate $(day '{from}') -enddate $(day '{to}') -in dated.csr -out leaf.pem
             cat leaf.pem ca.pem >dated.pem"
        );
        let mut sh = Command::new("sh");
        let output = sh.args(["-euc", &script]).current_dir(&self.path).output().expect("sh");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes a certificate for `host` and puts it and its key below `certs`, where an ACME client would.
    pub fn issue(&self, host: &str, key: Key, certificate: &str, secret: &str) {
        self.certificate("issued", key, &[host]);
        for (from, to) in [("issued.pem", certificate), ("issued.key", secret)] {
            let to = self.path("certs").join(to);
            fs::create_dir_all(to.parent().expect("a folder")).expect("make the folder");
            fs::rename(self.path(from), to).expect("put it there");
        }
    }

    fn openssl(&self, args: &[&str], key: Key) {
        let output = Command::new("openssl")
            .args(args)
            .args(["-nodes", "-newkey"])
            .args(key.options())
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .output()
            .expect("openssl: apt-get install openssl");
        assert!(
            output.status.success(),
            "openssl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Default for Folder {
    fn default() -> Folder {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the test's folder is kept: {}", self.path.display());
        } else if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

/// What openssl-ca(1) needs to know.
const CA: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nserial=serial\nnew_certs_dir=.\npolicy=p\ndefault_md=sha256\n\
    [p]\ncommonName=supplied\n[x]\nsubjectAltName=DNS:mx.test\n";

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// RSA with 2048 bits.
    Rsa,
}

impl Key {
    fn options(self) -> &'static [&'static str] {
        match self {
            Key::P256 => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Key::Rsa => &["rsa:2048"],
        }
    }
}

fn give(path: &Path) {
    chown(path, Some(ORDINARY), Some(ORDINARY)).expect("chown");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("read a folder") {
            give(&entry.expect("read a folder").path());
        }
    }
}
