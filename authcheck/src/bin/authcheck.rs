//! authcheck checks passwords: as a checkpassword program on descriptor 3, or as a process beside an SMTP server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use authcheck::checkpassword::check;
use authcheck::request::Order;
use authcheck::server::{PROGRAM, Settings, Source, serve};
use plumb::{Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => error.report(PROGRAM),
    }
}

fn run() -> Result<u8> {
    plumb::process::begin()?;
    let Options { serves, delegate, cram, order, strict, mut words } = Options::parse()?;
    if let Some(argv) = delegate {
        let source = Source::Program(argv, order, cram);
        return serve(Settings { source, strict, program: words });
    }
    let users = words.remove(0);
    if serves {
        serve(Settings { source: Source::Users(users.into()), strict, program: words })
    } else {
        check(users.as_ref(), order, &words)
    }
}

/// What the command line says.
#[derive(Default)]
struct Options {
    serves: bool,
    delegate: Option<Vec<OsString>>,
    cram: bool,
    order: Order,
    strict: bool,
    /// users.cdb, except with `-x`, and the program.
    words: Vec<OsString>,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::Arg::{Short, Value};
        let mut options = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(usage)? {
            match argument {
                Short('s') => options.serves = true,
                Short('S') => options.strict = true,
                Short('c') => options.cram = true,
                Short('x') => options.delegate = Some(split(&parser.value().map_err(usage)?)),
                Short('o') => {
                    let name = parser.value().map_err(usage)?;
                    let order = name.to_str().and_then(Order::parse);
                    options.order = order.ok_or_else(|| usage("unknown order"))?;
                }
                Value(first) => {
                    options.words.push(first);
                    options.words.extend(parser.raw_args().map_err(usage)?);
                }
                other => return Err(usage(other.unexpected())),
            }
        }
        options.checked()
    }

    fn checked(self) -> Result<Self> {
        let wanted = if self.delegate.is_some() { 1 } else { 2 };
        match &self.delegate {
            Some(argv) if argv.is_empty() => Err(usage("-x needs a program")),
            Some(_) if !self.serves => Err(usage("-x goes with -s")),
            None if self.cram => Err(usage("-c goes with -x")),
            _ if self.strict && !self.serves => Err(usage("-S goes with -s")),
            _ if self.words.len() < wanted => Err(usage("users.cdb or program is missing")),
            _ => Ok(self),
        }
    }
}

/// At blanks, without a shell.
fn split(command: &OsString) -> Vec<OsString> {
    let words = command.as_bytes().split(u8::is_ascii_whitespace);
    words.filter(|word| !word.is_empty()).map(|word| OsStr::from_bytes(word).into()).collect()
}

fn usage(what: impl std::fmt::Display) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

const USAGE: &str = "authcheck [-o hoffmann|dabrowski|plain] users.cdb program ..., \
    authcheck -s [-S] users.cdb program ..., \
    authcheck -s [-S] -x 'checkpassword program' [-c] [-o hoffmann|dabrowski] program ...";
