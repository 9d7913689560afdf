//! authcheck checks passwords: as a checkpassword program, on descriptor 3.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use authcheck::attempt::{Connection, Verdict, attempt};
use authcheck::record::Record;
use authcheck::request::{Misused, Order, REQUEST_MAX, Request};
use authcheck::store::Users;
use plumb::log::Log;
use plumb::privs::{Ids, drop_to};
use plumb::process::Program;
use plumb::{Doing, Error, Result};
use zeroize::Zeroize;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => error.report(PROGRAM),
    }
}

fn run() -> Result<ExitCode> {
    plumb::process::begin()?;
    let options = Options::parse()?;
    let connid = std::env::var("CONNID").unwrap_or_default();
    let mut log = Log::new(PROGRAM, std::process::id(), connid);
    let connection = Connection::of_process();
    let request = match read_request(options.order)? {
        Ok(request) => request,
        Err(Misused) => {
            log.line("descriptor 3 holds no request");
            return Ok(ExitCode::from(MISUSED));
        }
    };
    let verdict = match Users::open(&options.users) {
        Ok(users) => attempt(&users, &request.login, &request.proofs),
        Err(cause) => Verdict::Unavailable(format!("{}: {cause}", options.users.display())),
    };
    match verdict {
        Verdict::Accepted(record) => {
            log.line(connection.successful(&request.login, INTERFACE));
            Err(become_program(&options.program, &request, &record)?)
        }
        Verdict::Refused(reason) => {
            log.line(connection.failed(&request.login, INTERFACE, reason.word()));
            Ok(ExitCode::from(REFUSED))
        }
        Verdict::Unavailable(cause) => {
            log.line(connection.unavailable(INTERFACE, &cause));
            Ok(ExitCode::from(plumb::die::TEMPORARY))
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

/// What the command line says.
struct Options {
    order: Order,
    users: PathBuf,
    program: Vec<OsString>,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut order = Order::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            match argument {
                lexopt::Arg::Short('o') => {
                    let name = parser.value().map_err(|error| usage(&error.to_string()))?;
                    let name = name.to_str().and_then(Order::parse);
                    order = name.ok_or_else(|| usage("unknown order"))?;
                }
                lexopt::Arg::Value(users) => {
                    let program: Vec<_> =
                        parser.raw_args().map_err(|error| usage(&error.to_string()))?.collect();
                    if program.is_empty() {
                        return Err(usage("no program to run"));
                    }
                    return Ok(Self { order, users: users.into(), program });
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        Err(usage("no users.cdb"))
    }
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

const PROGRAM: &str = "authcheck";
const USAGE: &str = "authcheck [-o hoffmann|dabrowski|plain] users.cdb program ...";

/// What stands for the mechanism in the log: the caller knows it, and does not tell.
const INTERFACE: &str = "checkpassword";

/// checkpassword's exit codes: the password is unacceptable; the program is misused.
const REFUSED: u8 = 1;
const MISUSED: u8 = 2;
