//! qmail-queue's exit codes, and what the log says with them.

/// Why nothing was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// For the log.
    pub message: &'static str,
}

const fn failure(code: u8, message: &'static str) -> Failure {
    Failure { code, message }
}

pub const ADDRESS_TOO_LONG: Failure = failure(11, "an address has more than 1,002 bytes");
pub const WRITE: Failure = failure(53, "unable to write the message");
pub const READ: Failure = failure(54, "message or envelope ended too early");
pub const NO_MAILDIR: Failure = failure(55, "MAILDIR is not set");
pub const FOLDER: Failure = failure(61, "unable to change to MAILDIR");
pub const CREATE: Failure = failure(62, "unable to make a file in tmp");
pub const LINK: Failure = failure(64, "unable to link the message into new");
pub const SYNC_FOLDER: Failure = failure(66, "unable to sync new");
pub const BUG: Failure = failure(81, "unable to begin");
pub const FORMAT: Failure = failure(91, "malformed envelope");
