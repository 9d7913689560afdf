//! smtpd receives mail by SMTP on descriptors 0 and 1 and hands it to qmail-queue.

mod auth;
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
use crate::client::Client;
use crate::conversation::Conversation;
use crate::policy::{Policy, REPLACEMENT};
use crate::replies::Reply;
use crate::settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report("smtpd"),
    }
}

fn run() -> Result<()> {
    let password_process = password_process()?;
    plumb::process::begin()?;
    let verbose = arguments().map_err(|error| turn_away(&replies::CONFIGURATION, error))?;
    let policy =
        Policy::from_env(variable).map_err(|error| turn_away(&replies::CONFIGURATION, error))?;
    let tls_server = ucspi_tls::Server::from_env(variable)
        .doing("use the descriptors of UCSPI-TLS")
        .map_err(|error| turn_away(&replies::CONFIGURATION, error.permanently()))?;
    let settings =
        Settings::read(policy, variable).map_err(|error| turn_away(&replies::CONTROLS, error))?;
    let client = Client::new(settings.timeout).doing("use descriptors 0 and 1")?;
    Conversation::new(settings, tls_server, password_process, client, verbose).hold();
    Ok(())
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

/// Whether `-v` was given; AUTH patches' arguments get a hint instead of silence.
fn arguments() -> Result<bool> {
    let mut verbose = false;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
        match argument {
            lexopt::Arg::Short('v') => verbose = true,
            lexopt::Arg::Value(_) => return Err(usage("no arguments are taken")),
            other => return Err(usage(&other.unexpected().to_string())),
        }
    }
    Ok(verbose)
}

fn usage(why: &str) -> Error {
    Error::permanent(format!("{why}; usage: smtpd [-v]; {REPLACEMENT}"))
}

/// A client that cannot be served is told so; the error is for the log.
fn turn_away(reply: &Reply, error: Error) -> Error {
    // Whether it is still there makes no difference to the error.
    write!(std::io::stdout(), "{reply}\r\n").and_then(|()| std::io::stdout().flush()).ok();
    error
}
