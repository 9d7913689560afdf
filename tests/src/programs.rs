//! Where the programs are: our own, Debian's, and the unpacked peers.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// The programs without which no chain runs.
const CHAIN: [&str; 3] = ["starttls-wrap", "smtpd", "queue-maildir"];

/// The folder of our programs: `CHAINMAIL_BIN`, or where cargo put them beside this test.
pub fn folder() -> PathBuf {
    let folder = match env::var_os("CHAINMAIL_BIN") {
        Some(folder) => fs::canonicalize(folder).expect("the folder named by CHAINMAIL_BIN"),
        None => beside_this_test(),
    };
    for program in CHAIN {
        let path = folder.join(program);
        assert!(
            path.exists(),
            "{} is missing: run `cargo build --workspace` first",
            path.display()
        );
    }
    folder
}

/// target/PROFILE, two folders above target/PROFILE/deps/TEST.
fn beside_this_test() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_path_buf()
}

/// Whether every user may reach what lies below `path`.
pub fn reachable(path: &Path) -> bool {
    path.ancestors()
        .all(|folder| fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 1 != 0))
}

/// Whether this test runs as root.
pub fn root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether the Debian program `program` is there; if not, a counted skip that names `package`.
pub fn debian(program: &str, package: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdout(Stdio::null())
        .status()
        .expect("sh")
        .success();
    found || skip::<()>(&format!("no {program}: apt-get install {package}")).is_some()
}

/// Whether a command ends with 0 (an interpreter that finds a module); if not, a counted skip that names `package`.
pub fn works(command: &[&str], package: &str) -> bool {
    let mut started = Command::new(command[0]);
    let ended = started.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let works = ended.is_ok_and(|status| status.success());
    works || skip::<()>(&format!("{command:?} fails: apt-get install {package}")).is_some()
}

/// Whether this test runs as root; if not, a counted skip.
pub fn needs_root() -> bool {
    root() || skip::<()>("needs root").is_some()
}

/// Tells that a test could not run here, and counts it in the file named by `CHAINMAIL_SKIPS`; panics where skips are forbidden
/// (`CI=true`, `CHAINMAIL_NO_SKIP=1`). Always `None`.
pub fn skip<T>(reason: &str) -> Option<T> {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let forbidden = env::var("CI").is_ok_and(|v| v == "true")
        || env::var("CHAINMAIL_NO_SKIP").is_ok_and(|v| v == "1");
    assert!(!forbidden, "{test} may not be skipped here: {reason}");
    eprintln!("SKIPPED: {test}: {reason}");
    if let Some(file) = env::var_os("CHAINMAIL_SKIPS") {
        let mut file =
            OpenOptions::new().append(true).create(true).open(file).expect("open CHAINMAIL_SKIPS");
        writeln!(file, "{test}: {reason}").expect("count a skip");
    }
    None
}
