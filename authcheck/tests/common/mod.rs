//! What the tests of the programs share.
#![allow(dead_code, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of its own for each test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("authcheck-{name}"));
        fs::remove_dir_all(&folder).ok();
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// users.cdb of these lines.
    pub fn users(&self, lines: &str) -> PathBuf {
        let (text, users) = (self.path("users"), self.path("users.cdb"));
        fs::write(&text, lines).unwrap();
        let output = compile(&text, &users);
        assert!(output.status.success(), "{}", said(&output));
        users
    }
}

/// What can stand in the place of users.cdb and is none.
pub fn no_databases(folder: &Folder) -> Vec<PathBuf> {
    let [fifo, empty, directory, zeroes] =
        ["fifo", "empty", "directory", "zeroes"].map(|name| folder.path(name));
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(&empty, b"").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(&zeroes, vec![0; 100_000]).unwrap();
    vec![fifo, empty, directory, zeroes, "/dev/zero".into(), folder.path("missing/x")]
}

pub fn compile(text: &Path, users: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_authcdb")).args([text, users]).output().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// One line of authpass.
pub fn record(arguments: &[&str], password: &str) -> String {
    let output = authpass(arguments, &format!("{password}\n{password}\n"));
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub fn authpass(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authpass"));
    fed(command.args(arguments), input.as_bytes())
}

pub fn fed(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A program that does not read has ended, which its exit code tells.
    child.stdin.take().unwrap().write_all(input).ok();
    child.wait_with_output().unwrap()
}

/// Whether this test runs as root; if not, it says that it cannot.
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}
