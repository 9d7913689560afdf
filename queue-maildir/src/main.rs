//! queue-maildir has qmail-queue's interface and delivers into one Maildir.

mod envelope;
mod exit;
mod maildir;

use std::env::{args_os, set_current_dir, var_os};
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::process::ExitCode;
use std::time::SystemTime;

use plumb::log::Log;
use plumb::ucspi::connid;

use crate::envelope::Envelope;
use crate::maildir::{Spool, Trouble, deliver};

fn main() -> ExitCode {
    if args_os().len() > 1 {
        return plumb::Error::permanent("usage: queue-maildir").report("queue-maildir");
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err((failure, error)) => {
            let pid = std::process::id();
            let connid = connid(var_os("CONNID").as_deref(), SystemTime::now(), pid);
            let event = format!("{}: {error} exit={}", failure.message, failure.code);
            Log::new("queue-maildir", pid, connid).line(event);
            ExitCode::from(failure.code)
        }
    }
}

/// The message from descriptor 0, then the envelope from descriptor 1, then both into MAILDIR.
fn run() -> Result<(), Trouble> {
    plumb::process::begin().map_err(|error| (exit::BUG, Error::other(error)))?;
    let none = || (exit::NO_MAILDIR, Error::from(ErrorKind::NotFound));
    let maildir = var_os("MAILDIR").filter(|path| !path.is_empty()).ok_or_else(none)?;
    set_current_dir(maildir).map_err(|error| (exit::FOLDER, error))?;
    let spool = Spool::read(descriptor(0)?)?;
    let mut envelope = Vec::new();
    let mut input = descriptor(1)?.take(ENVELOPE_LIMIT);
    input.read_to_end(&mut envelope).map_err(|error| (exit::READ, error))?;
    let envelope = Envelope::parse(&envelope)
        .map_err(|failure| (failure, Error::from(ErrorKind::InvalidData)))?;
    deliver(&envelope.header(), spool)
}

fn descriptor(number: i32) -> Result<File, Trouble> {
    plumb::fds::adopt(number).map(File::from).map_err(|error| (exit::READ, error))
}

/// Ten thousand recipients of the longest kind.
const ENVELOPE_LIMIT: u64 = 10_000 * 1004;
