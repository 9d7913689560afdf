//! Every reply that greylist gives, and every line that it logs.

use std::fmt;
use std::time::Duration;

use plumb::log::value;

use crate::triplet::Seconds;

/// A line with a bare CR or LF, a NUL, or too many bytes in it (RFC 5321 2.3.8, 4.5.3.1).
pub const BAD_LINE: &[u8] =
    b"500 5.5.2 a line must end in CRLF and hold no other CR, LF or NUL\r\n";
/// A line of more than COMMAND_LIMIT bytes (RFC 4954 4: 5.5.6).
pub const LONG_LINE: &[u8] = b"500 5.5.6 line too long\r\n";
/// BDAT that the program has not offered (RFC 3030 2).
pub const NO_CHUNKING: &[u8] = b"503 5.5.1 CHUNKING was not offered\r\n";
/// A BDAT command that does not say how many octets follow; nobody can go on from there.
pub const BAD_CHUNK: &[u8] = b"501 5.5.4 BDAT needs a size and nothing but LAST behind it\r\n";
/// A body that ends in different places for different readers.
pub const AMBIGUOUS: &[u8] = b"550 5.5.2 ambiguous end of data\r\n";
/// The program's replies and the client's commands do not fit together any more.
pub const OUT_OF_STEP: &[u8] = b"421 4.3.0 lost step with the mail server\r\n";
/// The program ended where it owed a reply.
pub const PROGRAM_GONE: &[u8] = b"421 4.3.0 mail server is gone\r\n";
/// Settings that make no sense; the log says which.
pub const MISCONFIGURED: &[u8] = b"421 4.3.5 mail server is misconfigured\r\n";
/// Nobody has said anything for too long.
pub const TIMEOUT: &[u8] = b"421 4.4.2 timeout\r\n";
/// The program would not take back the recipients that were refused here.
pub const NOT_RESTARTED: &[u8] = b"451 4.3.0 could not start the transaction again\r\n";
/// A rule of the administrator's.
pub const REFUSED: &[u8] = b"550 5.7.1 refused by local policy\r\n";

/// Come back in so many seconds (RFC 6647 5: 450; 4.7.1 as everybody's).
pub fn greylisted(left: Seconds) -> Vec<u8> {
    format!("450 4.7.1 Greylisted, retry={}\r\n", clock(left)).into_bytes()
}

/// Seconds as hours, minutes and seconds: `00:01:00`.
pub fn clock(seconds: Seconds) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

/// Why a session goes on without greylist although nothing is known to be wrong with its store.
pub const UNHEARD: &str = "the lookup has died, or took longer than 300 ms";

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The host is left alone.
    Left {
        /// Why.
        why: &'static str,
        /// Its network or domain.
        host: String,
        /// Where the store knows it: seconds since it came in for the first time, and what asking took.
        known: Option<(Seconds, Duration)>,
    },
    /// A recipient must come back; `enforced` is false in log-only mode.
    Delayed {
        /// The network or domain.
        host: String,
        /// The sender, normalised.
        sender: String,
        /// The recipient as the client gave it.
        recipient: Vec<u8>,
        /// Seconds until a retry will pass.
        left: Seconds,
        /// What its key in the store says.
        entry: Entry,
        /// Whether the client was told so.
        enforced: bool,
    },
    /// A recipient came back in time, and its host is known from now on.
    Passed {
        /// The network or domain.
        host: String,
        /// The sender, normalised.
        sender: String,
        /// The recipient as the client gave it.
        recipient: Vec<u8>,
        /// What its key in the store says.
        entry: Entry,
    },
    /// A rule lets a recipient pass, if the program takes it.
    Ruled {
        /// The network or domain.
        host: String,
        /// The sender as the client gave it.
        sender: Vec<u8>,
        /// The recipient as the client gave it.
        recipient: Vec<u8>,
    },
    /// A rule refused a recipient; `enforced` is false in log-only mode.
    Refused {
        /// The network or domain.
        host: String,
        /// The sender as the client gave it.
        sender: Vec<u8>,
        /// The recipient as the client gave it.
        recipient: Vec<u8>,
        /// Whether the client was told so.
        enforced: bool,
    },
    /// The client logged in.
    Trusted,
    /// TLS began behind greylist, which sees nothing any more.
    Blind,
    /// The store failed and is not asked again.
    StoreDown(String),
    /// A body had an ambiguous end.
    Ambiguous,
    /// A reply came that no command explains.
    OutOfStep,
    /// Neither side said anything for too long.
    Timeout,
}

/// What an attempt waits by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Seconds since its first attempt.
    pub waited: Seconds,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Whether all the host's mail shares it.
    pub crowd: bool,
    /// What the store has taken of the session's time until now.
    pub store: Duration,
}

impl fmt::Display for Event {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Left { why, host, known: None } => {
                write!(out, "left-alone why={why} host={host}")
            }
            Event::Left { why, host, known: Some((age, store)) } => {
                let store = store.as_micros();
                write!(out, "left-alone why={why} host={host} age={age} store-us={store}")
            }
            Event::Delayed { host, sender, recipient, left, entry, enforced } => {
                let event = if *enforced { "delayed" } else { "would-delay" };
                let why = if entry.attempt > 1 { "early" } else { "new" };
                let shown = shown(host, sender.as_bytes(), recipient);
                write!(out, "{event} why={why} {shown} left={left} {entry}")
            }
            Event::Passed { host, sender, recipient, entry } => {
                let shown = shown(host, sender.as_bytes(), recipient);
                write!(out, "passed why=came-back {shown} {entry}")
            }
            Event::Ruled { host, sender, recipient } => {
                write!(out, "passed why=rule {}", shown(host, sender, recipient))
            }
            Event::Refused { host, sender, recipient, enforced } => {
                let event = if *enforced { "refused" } else { "would-refuse" };
                write!(out, "{event} why=rule {}", shown(host, sender, recipient))
            }
            Event::Trusted => out.write_str("left-alone why=authenticated"),
            Event::Blind => out.write_str(
                "blind: TLS began behind greylist; put starttls-wrap in front of greylist",
            ),
            Event::StoreDown(reason) => {
                write!(out, "store-down, mail passes: {reason}")
            }
            Event::Ambiguous => out.write_str("ended why=ambiguous-end-of-data"),
            Event::OutOfStep => out.write_str("ended why=unexplained-reply"),
            Event::Timeout => out.write_str("ended why=timeout"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { waited, attempt, crowd, store } = self;
        let (key, store) = (if *crowd { "host" } else { "triple" }, store.as_micros());
        write!(out, "waited={waited} attempt={attempt} key={key} store-us={store}")
    }
}

fn shown(host: &str, sender: &[u8], recipient: &[u8]) -> String {
    let [sender, recipient] = [sender, recipient].map(|address| value(address, SHOWN_LIMIT));
    format!("host={host} from=<{sender}> to=<{recipient}>")
}

/// Addresses in the log are cut here: RFC 5321 4.5.3.1.3 knows none longer than 256.
const SHOWN_LIMIT: usize = 320;
