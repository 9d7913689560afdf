//! Users for authcheck, made by authpass and authcdb as an administrator makes them.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::Folder;
use crate::programs;

/// The chain of a submission service: TLS, the password process, then smtpd as an ordinary user.
pub const SUBMISSION: &str = "starttls-wrap authcheck -s users.cdb setuidgid nobody smtpd";

/// The user that most tests mean, and the argument of AUTH PLAIN that is right for it.
pub const USER: (&str, &str) = ("user", "secret");
/// RFC 4616 2: NUL user NUL secret.
pub const PLAIN: &str = "AHVzZXIAc2VjcmV0";

/// Makes `users.cdb` of [`USER`], with a CRAM-MD5 context too.
pub fn one(folder: &Folder) {
    make(folder, &[record(&["-c", USER.0], USER.1)]);
}

/// One line of authpass, for these arguments and this password.
pub fn record(arguments: &[&str], password: &str) -> String {
    let mut command = Command::new(programs::folder().join("authpass"));
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().expect("authpass");
    let mut input = child.stdin.take().expect("its input");
    write!(input, "{password}\n{password}\n").expect("write to authpass");
    drop(input);
    let output = child.wait_with_output().expect("authpass");
    assert!(output.status.success(), "authpass {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).expect("a record in UTF-8")
}

/// Makes `users.cdb` of these lines.
pub fn make(folder: &Folder, records: &[String]) {
    folder.write("users", records.concat());
    let output = compile(folder);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "authcdb: {said}");
    fs::remove_file(folder.path("users")).expect("remove the records");
}

/// Runs authcdb on the file `users`.
pub fn compile(folder: &Folder) -> Output {
    let mut authcdb = Command::new(programs::folder().join("authcdb"));
    authcdb.args([folder.path("users"), folder.path("users.cdb")]).output().expect("authcdb")
}
