//! starttls-wrap: TLS at the head of a chain, for programs that know nothing of it.

mod certificate;
mod certs;
mod channel;
mod check;
mod ehlo;
mod environment;
#[cfg(test)]
mod fixture;
mod holder;
#[cfg(feature = "pq")]
mod kex;
mod key;
mod key_pair;
mod middle;
mod monitor;
mod net;
mod policy;
mod renewal;
mod replies;
mod report;
mod tls;
mod transcript;
mod wrap;

use std::env::var_os;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use plumb::die::CONFIGURATION;
use plumb::fds::close_all_but;
use plumb::log::Log;
use plumb::privs::Identity;
use plumb::ucspi::{Ucspi, connid};
use plumb::{Doing, Error, Result};

use crate::certs::Paths;
use crate::monitor::Settings;
use crate::policy::{Contradiction, Policy};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => error.report(PROGRAM),
    }
}

fn run() -> Result<u8> {
    plumb::process::begin()?;
    // The programs would inherit what somebody in front has left open.
    close_all_but(&[0, 1, 2]).doing("close descriptors")?;
    let options = Options::parse()?;
    if options.check {
        return check(&options);
    }
    serve(options).inspect_err(turn_away)
}

fn serve(options: Options) -> Result<u8> {
    let connid = connid(var_os("CONNID").as_deref(), SystemTime::now(), std::process::id());
    let mut log = Log::new(PROGRAM, std::process::id(), &*connid);
    let policy = Policy::from_environment(|name| var_os(name), options.immediate)?;
    // Where TLS comes first, there is only one program anyway.
    let policy = Policy { keep: options.keep && policy.tls != policy::Tls::Immediate, ..policy };
    foreign_terminator(&policy)?;
    let mut session = Ucspi::of_process().set;
    session.push(("CONNID", connid.into()));
    let settings = Settings {
        program: options.program,
        policy,
        paths: Paths::from_environment(|name| var_os(name)),
        net_identity: Identity::from_env("TLS", |name| var_os(name))?,
        key_identity: Identity::from_env("KEY", |name| var_os(name))?,
        strict: options.strict,
        session,
    };
    monitor::run(settings, &mut log)
}

/// Reports on what a session would find; 1 if anything must be mended.
fn check(options: &Options) -> Result<u8> {
    let policy = Policy::from_environment(|name| var_os(name), options.immediate)
        .and_then(|policy| foreign_terminator(&policy).map(|()| policy));
    let identities = ["TLS", "KEY"].map(|prefix| Identity::from_env(prefix, |name| var_os(name)));
    let wrong = identities.into_iter().filter_map(Result::err);
    let mut findings: Vec<_> = wrong.map(|error| check::problem(error.to_string())).collect();
    let needed = policy.is_err() || policy.is_ok_and(|policy| policy.tls != policy::Tls::Denied);
    let paths = Paths::from_environment(|name| var_os(name));
    findings.extend(check::findings(&paths, needed, SystemTime::now()));
    let text = if options.json { report::json } else { report::text }(&findings, &policy);
    io::stdout().write_all(text.as_bytes()).doing("write the report")?;
    Ok(u8::from(report::problems(&findings, &policy) > 0))
}

/// Another program in front already ends TLS: what it says cannot be told from what we would say.
fn foreign_terminator(policy: &Policy) -> std::result::Result<(), Contradiction> {
    let foreign = ["SSL_PROTOCOL", "SSL_CIPHER", "SSLREMOTEIP"];
    match foreign.into_iter().find(|name| var_os(name).is_some()) {
        Some(name) if policy.tls == policy::Tls::Immediate => Err(Contradiction("SSL", name)),
        _ => Ok(()),
    }
}

/// Tells the client why it cannot be served, in clear even where it awaits TLS: nothing else can be said.
fn turn_away(error: &Error) {
    let reply = match error.exit_code() {
        CONFIGURATION => replies::MISCONFIGURED,
        _ => replies::PROGRAM_GONE,
    };
    // A client that is gone needs no reply, and the log line says it all.
    let _ = io::stdout().write_all(reply).and_then(|()| io::stdout().flush());
}

/// What the command line says.
#[derive(Default)]
struct Options {
    check: bool,
    json: bool,
    immediate: bool,
    keep: bool,
    strict: bool,
    program: Vec<OsString>,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options = Options::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            match argument {
                lexopt::Arg::Long("check") => options.check = true,
                lexopt::Arg::Long("json") => options.json = true,
                lexopt::Arg::Short('i') => options.immediate = true,
                lexopt::Arg::Short('k') => options.keep = true,
                lexopt::Arg::Short('S') => options.strict = true,
                lexopt::Arg::Value(program) => {
                    options.program.push(program);
                    options.program.extend(parser.raw_args().map_err(|e| usage(&e.to_string()))?);
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        match (options.check, options.json, options.program.is_empty()) {
            (false, true, _) => Err(usage("--json goes with --check")),
            (false, _, true) => Err(usage("no program to run")),
            _ => Ok(options),
        }
    }
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

const PROGRAM: &str = "starttls-wrap";
const USAGE: &str = "starttls-wrap [-ikS] program ... | starttls-wrap --check [--json]";
