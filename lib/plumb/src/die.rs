//! Errors that say what was being done, and the exit codes that tell a supervisor whether to retry.

use std::fmt;
use std::io;
use std::process::ExitCode;

use nix::errno::Errno;

use crate::log;

/// Exit code of wrong usage or configuration: retrying is pointless.
pub const CONFIGURATION: u8 = 100;
/// Exit code of a system failure that may pass.
pub const TEMPORARY: u8 = 111;

/// Why a program ends: what it was doing, what went wrong, and whether a retry can help.
#[derive(Debug)]
pub struct Error {
    message: String,
    permanent: bool,
}

/// A result whose error is ready to be reported.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was being done to an error of the system; the result exits 111 unless it is made permanent.
pub trait Doing<T> {
    /// Names what was being done, as the words after `unable to`.
    fn doing(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Error::unable(what, &cause.into()))
    }
}

impl Error {
    /// A temporary failure (111): `unable to WHAT: CAUSE`.
    pub fn unable(what: impl Into<String>, cause: &io::Error) -> Self {
        Self::temporary(format!("unable to {}: {}", what.into(), reason(cause)))
    }

    /// A temporary failure (111) in its own words.
    pub fn temporary(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: false }
    }

    /// Wrong usage or configuration (100) in its own words.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), permanent: true }
    }

    /// The same error, with exit code 100.
    #[must_use]
    pub fn permanently(self) -> Self {
        Self { permanent: true, ..self }
    }

    /// 100 where retrying is pointless, otherwise 111.
    pub fn exit_code(&self) -> u8 {
        if self.permanent { CONFIGURATION } else { TEMPORARY }
    }

    /// Prints `PROGRAM: fatal: ...` on descriptor 2 with one write(2), unless that is the client's own socket, and gives the exit code.
    pub fn report(&self, program: &str) -> ExitCode {
        log::fatal(&format!("{program}: fatal: {self}"));
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The system's words for an error, without std's ` (os error 2)`.
pub fn reason(cause: &io::Error) -> String {
    cause
        .raw_os_error()
        .map_or_else(|| cause.to_string(), |code| Errno::from_raw(code).desc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Errors say what was being done; 100 when retrying is pointless, 111 otherwise.
    #[test]
    fn an_error_says_what_was_being_done_and_whether_to_retry() {
        let missing = std::fs::File::open("/nowhere").doing("open the key file").unwrap_err();
        assert_eq!(missing.to_string(), "unable to open the key file: No such file or directory");
        assert_eq!(missing.exit_code(), 111);
        assert_eq!(missing.permanently().exit_code(), 100);
        let full: std::result::Result<(), Errno> = Err(Errno::ENOSPC);
        let full = full.doing("write").unwrap_err();
        assert_eq!(full.to_string(), "unable to write: No space left on device");
        let odd: io::Result<()> = Err(io::Error::other("odd"));
        assert_eq!(odd.doing("count").unwrap_err().to_string(), "unable to count: odd");
        assert_eq!(Error::permanent("no me file").exit_code(), 100);
        assert_eq!(Error::temporary("no me file").exit_code(), 111);
    }
}
