//! greylist: whoever is unknown must come back, and the mail server never notices.

mod session;

use std::env::var_os;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use plumb::log::Log;
use plumb::process::Program;
use plumb::ucspi::{Ucspi, connid};
use plumb::{Error, Result};

use greylist::settings::{Settings, left_alone};
use greylist::words::MISCONFIGURED;

use session::Session;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

/// The parent becomes the program; only the relaying child, and errors, come back.
fn run() -> Result<()> {
    plumb::process::begin()?;
    let options = Options::parse()?;
    let program = Program::new(&options.program)?;
    if left_alone(|name| var_os(name)) {
        return Err(program.exec());
    }
    let facts = Ucspi::of_process();
    let pid = std::process::id();
    let connid = connid(var_os("CONNID").as_deref(), SystemTime::now(), pid);
    let program = facts
        .set
        .iter()
        .fold(program.env("CONNID", &connid), |program, (name, value)| program.env(name, value));
    let settings = Settings::from_env(|name| var_os(name)).map_err(refuse)?;
    Session::new(settings, &facts, Log::new(PROGRAM, pid, connid)).run(program, options.strict)
}

/// Tells the client why nobody answers.
fn refuse(error: Error) -> Error {
    // A client that is gone needs no reply, and the log line says it all.
    let _ = io::stdout().write_all(MISCONFIGURED).and_then(|()| io::stdout().flush());
    error
}

/// What the command line says.
struct Options {
    strict: bool,
    program: Vec<OsString>,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options = Options { strict: false, program: Vec::new() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            match argument {
                lexopt::Arg::Short('S') => options.strict = true,
                lexopt::Arg::Value(program) => {
                    options.program.push(program);
                    options.program.extend(parser.raw_args().map_err(|e| usage(&e.to_string()))?);
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        if options.program.is_empty() { Err(usage("no program to run")) } else { Ok(options) }
    }
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

const PROGRAM: &str = "greylist";
const USAGE: &str = "greylist [-S] program ...";
