//! smtpd receives mail by SMTP on descriptors 0 and 1 and hands it to qmail-queue.

mod auth;
mod check;
mod client;
mod commands;
mod control;
mod conversation;
mod message;
mod parameters;
mod policy;
mod queue;
mod rcpthosts;
mod received;
mod recipients;
mod replies;
mod session;
mod settings;
#[cfg(test)]
mod transcripts;
mod ucspi_tls;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use plumb::{Doing, Error, Result};

use crate::auth::PasswordProcess;
use crate::check::Report;
use crate::client::Client;
use crate::conversation::Conversation;
use crate::policy::{Policy, REPLACEMENT};
use crate::replies::Reply;
use crate::settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => error.report("smtpd"),
    }
}

fn run() -> Result<ExitCode> {
    let password_process = password_process();
    plumb::process::begin()?;
    let verbose = match arguments().map_err(|error| turn_away(&replies::CONFIGURATION, error))? {
        Mode::Check => return check(),
        Mode::Serve { verbose } => verbose,
    };
    let password_process =
        password_process.map_err(|error| turn_away(&replies::CONFIGURATION, error))?;
    let policy =
        Policy::from_env(variable).map_err(|error| turn_away(&replies::CONFIGURATION, error))?;
    let tls_server = ucspi_tls::Server::from_env(variable)
        .doing("use the descriptors of UCSPI-TLS")
        .map_err(|error| turn_away(&replies::CONFIGURATION, error.permanently()))?;
    let settings =
        Settings::read(policy, variable).map_err(|error| turn_away(&replies::CONTROLS, error))?;
    let client = Client::new(settings.timeout).doing("use descriptors 0 and 1")?;
    Conversation::new(settings, tls_server, password_process, client, verbose).hold();
    Ok(ExitCode::SUCCESS)
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// SASLFD: close-on-exec first of all, the password process must not be within reach of the queue and what it runs.
fn password_process() -> Result<Option<PasswordProcess>> {
    let Some(number) = variable("SASLFD") else { return Ok(None) };
    let number = number.to_str().and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| Error::permanent("SASLFD is no number"))?;
    let socket = plumb::fds::adopt(number).doing("use SASLFD").map_err(Error::permanently)?;
    Ok(Some(PasswordProcess::new(socket.into())))
}

/// What the command line asks for.
enum Mode {
    Check,
    Serve { verbose: bool },
}

/// AUTH patches' arguments get a hint instead of silence.
fn arguments() -> Result<Mode> {
    let mut mode = Mode::Serve { verbose: false };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
        match argument {
            lexopt::Arg::Short('v') => mode = Mode::Serve { verbose: true },
            lexopt::Arg::Long("check") => mode = Mode::Check,
            lexopt::Arg::Value(_) => return Err(usage("no arguments are taken")),
            other => return Err(usage(&other.unexpected().to_string())),
        }
    }
    Ok(mode)
}

/// Reports what a session would do; 1 if anything must be mended.
fn check() -> Result<ExitCode> {
    let read = |policy| Settings::read(policy, variable);
    let names = std::env::vars_os().map(|(name, _)| name);
    let report = Report::new(Policy::from_env(variable), read, names);
    std::io::stdout().write_all(report.text().as_bytes()).doing("write the report")?;
    Ok(ExitCode::from(u8::from(report.has_problems())))
}

fn usage(why: &str) -> Error {
    Error::permanent(format!("{why}; usage: smtpd [-v | --check]; {REPLACEMENT}"))
}

/// A client that cannot be served is told so; the error is for the log.
fn turn_away(reply: &Reply, error: Error) -> Error {
    // Whether it is still there makes no difference to the error.
    write!(std::io::stdout(), "{reply}\r\n").and_then(|()| std::io::stdout().flush()).ok();
    error
}
