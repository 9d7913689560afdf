//! authcheck as a checkpassword program: descriptor 3, one decision, exec.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use plumb::log::Log;
use plumb::privs::{Ids, drop_to};
use plumb::process::Program;
use plumb::{Doing, Error, Result};
use zeroize::Zeroize;

use crate::attempt::{Connection, Verdict, attempt};
use crate::record::Record;
use crate::request::{Misused, Order, REQUEST_MAX, Request};
use crate::server::PROGRAM;
use crate::store::Users;

/// Checks the request and becomes the program; returns the exit code where there is none to become.
pub fn check(users: &Path, order: Order, argv: &[OsString]) -> Result<u8> {
    let connid = std::env::var("CONNID").unwrap_or_default();
    let mut log = Log::new(PROGRAM, std::process::id(), connid);
    let connection = Connection::of_process();
    let Ok(request) = read_request(order)? else {
        log.line("descriptor 3 holds no request");
        return Ok(MISUSED);
    };
    let verdict = match Users::open(users) {
        Ok(users) => attempt(&users, &request.login, &request.proofs),
        Err(cause) => Verdict::Unavailable(format!("{}: {cause}", users.display())),
    };
    match verdict {
        Verdict::Accepted(record) => {
            log.line(connection.successful(&request.login, INTERFACE));
            Err(become_program(argv, &request, &record)?)
        }
        Verdict::Refused(reason) => {
            log.line(connection.failed(&request.login, INTERFACE, reason.word()));
            Ok(REFUSED)
        }
        Verdict::Unavailable(cause) => {
            log.line(connection.unavailable(INTERFACE, &cause));
            Ok(plumb::die::TEMPORARY)
        }
    }
}

/// Reads descriptor 3 to its end; what is too long is refused whole, never cut.
fn read_request(order: Order) -> Result<std::result::Result<Request, Misused>> {
    let Ok(descriptor) = plumb::fds::adopt(3) else { return Ok(Err(Misused)) };
    let mut bytes = vec![0; REQUEST_MAX.saturating_add(1)];
    let mut file = File::from(descriptor);
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room).doing("read descriptor 3")? {
            0 => break,
            count => length = length.saturating_add(count),
        }
    }
    let whole = bytes.get(..length).filter(|_| length <= REQUEST_MAX).ok_or(Misused);
    let request = whole.and_then(|bytes| Request::parse(bytes, order));
    bytes.zeroize();
    Ok(request)
}

/// Sets what the record says, as checkpassword does, and becomes the program; the error is that of exec.
fn become_program(argv: &[OsString], request: &Request, record: &Record) -> Result<Error> {
    let login = String::from_utf8_lossy(&request.login).into_owned();
    let mut program = Program::new(argv)?.env("USER", login);
    if let (Some(uid), Some(gid)) = (record.uid, record.gid)
        && nix::unistd::geteuid().as_raw() != uid
    {
        drop_to(Ids { uid, gid }).doing("become the user of the record")?;
    }
    if let Some(home) = &record.home {
        std::env::set_current_dir(home).doing("enter the home of the record")?;
        program = program.env("HOME", home);
    }
    if let Some(shell) = &record.shell {
        program = program.env("SHELL", shell);
    }
    for (name, value) in &record.env {
        program = program.env(name, value);
    }
    Ok(program.exec())
}

/// What stands for the mechanism in the log: the caller knows it, and does not tell.
const INTERFACE: &str = "checkpassword";

/// checkpassword's exit codes: the password is unacceptable; the program is misused.
const REFUSED: u8 = 1;
const MISUSED: u8 = 2;
