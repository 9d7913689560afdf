//! Every reply that smtpd can give: qmail's wording, RFC 2034 codes in front.

use std::borrow::Cow;
use std::fmt;

/// One reply, without its final CRLF; several lines are parted by CRLF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(Cow<'static, str>);

impl Reply {
    const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Whether it tells the client of an error of its own (RFC 5321 4.2.1: 5yz).
    pub fn is_error(&self) -> bool {
        self.0.starts_with('5')
    }

    /// Whether it tells of no failure.
    pub fn is_positive(&self) -> bool {
        matches!(self.0.as_bytes().first(), Some(b'2' | b'3'))
    }

    /// Whether the command was carried out.
    pub fn is_success(&self) -> bool {
        self.0.starts_with('2')
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first line of a session; RFC 2034 4 wants no code in it, nor in `helo` and `ehlo`.
pub fn greeting(name: &str) -> Reply {
    Reply(format!("220 {name} ESMTP").into())
}

/// The answer to HELO.
pub fn helo(name: &str) -> Reply {
    Reply(format!("250 {name}").into())
}

/// The answer to EHLO; `extensions` are its further lines.
pub fn ehlo(name: &str, extensions: &[String]) -> Reply {
    let mut lines: Vec<&str> = vec![name];
    lines.extend(extensions.iter().map(String::as_str));
    let last = lines.pop().unwrap_or_default();
    let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
    reply.push_str("250 ");
    reply.push_str(last);
    Reply(reply.into())
}

/// The answer to QUIT.
pub fn bye(name: &str) -> Reply {
    Reply(format!("221 2.0.0 {name}").into())
}

/// The message is in the queue: the form that qmail's log readers know.
pub fn accepted(unix_time: u64, queue_pid: u32) -> Reply {
    Reply(format!("250 2.0.0 ok {unix_time} qp {queue_pid}").into())
}

/// A chunk that is not the last has arrived (RFC 3030 2).
pub fn chunk_received(octets: u64) -> Reply {
    Reply(format!("250 2.0.0 ok {octets} octets received").into())
}

/// What the queue program itself wants to be said; `text` holds printable ASCII only.
pub fn from_queue(permanent: bool, text: &str) -> Reply {
    let code = if permanent { "554 5.3.0" } else { "451 4.3.0" };
    Reply(format!("{code} {text}").into())
}

/// What the password process answers; `text` holds printable ASCII only.
pub fn passed_on(text: &str) -> Reply {
    Reply(text.to_owned().into())
}

pub const SENDER_OK: Reply = Reply::new("250 2.1.0 ok");
pub const RECIPIENT_OK: Reply = Reply::new("250 2.1.5 ok");
pub const OK: Reply = Reply::new("250 2.0.0 ok");
pub const FLUSHED: Reply = Reply::new("250 2.0.0 flushed");
pub const AUTHENTICATED: Reply = Reply::new("235 2.7.0 ok, go ahead");
pub const VRFY: Reply = Reply::new("252 2.0.0 send some mail, i'll try my best");
pub const HELP: Reply = Reply::new("214 2.0.0 see RFC 5321");
pub const GO_AHEAD: Reply = Reply::new("354 go ahead");
pub const START_TLS: Reply = Reply::new("220 2.0.0 ready for tls");

pub const CONFIGURATION: Reply = Reply::new("421 4.3.5 unable to serve: settings contradict");
pub const CONTROLS: Reply = Reply::new("421 4.3.0 unable to read controls");
pub const TIMEOUT: Reply = Reply::new("421 4.4.2 timeout");
pub const TOO_SLOW: Reply = Reply::new("421 4.4.2 message comes too slowly");
pub const SESSION_OVER: Reply = Reply::new("421 4.4.2 session lasts too long");
pub const TOO_MANY_ERRORS: Reply = Reply::new("421 4.7.0 too many errors");

pub const NO_WEB_SERVER: Reply = Reply::new("421 4.7.0 this is not a web server");
pub const NO_MORE_AUTH: Reply = Reply::new("421 4.7.0 too many failures, or no password process");

pub const CANNOT_CHECK: Reply = Reply::new("451 4.3.0 unable to read controls");
pub const CANNOT_VERIFY: Reply = Reply::new("451 4.3.0 unable to verify recipient");
pub const NO_QUEUE: Reply = Reply::new("451 4.3.0 qqt failure");
pub const TOO_MANY_RECIPIENTS: Reply = Reply::new("452 4.5.3 too many recipients");
pub const NO_TLS_NOW: Reply = Reply::new("454 4.7.0 TLS not available");
pub const NO_AUTH_NOW: Reply = Reply::new("454 4.7.0 temporary authentication failure");

pub const UNRECOGNISED: Reply = Reply::new("500 5.5.2 unrecognised");
pub const BARE_LINE: Reply = Reply::new("500 5.5.2 lines end in CRLF and hold no other CR or LF");
pub const LINE_TOO_LONG: Reply = Reply::new("500 5.5.2 line too long");
pub const AUTH_TOO_LONG: Reply = Reply::new("500 5.5.6 authentication line too long");
pub const NUL_IN_LINE: Reply = Reply::new("501 5.5.2 NUL in a command");
pub const SYNTAX: Reply = Reply::new("501 5.5.4 syntax error");
pub const NO_NAME: Reply = Reply::new("501 HELO and EHLO need a name");
pub const BAD_SENDER: Reply = Reply::new("501 5.1.7 syntax error in the sender address");
pub const BAD_RECIPIENT: Reply = Reply::new("501 5.1.3 syntax error in the recipient address");
pub const UNIMPLEMENTED: Reply = Reply::new("502 5.5.1 unimplemented");
pub const MAIL_FIRST: Reply = Reply::new("503 5.5.1 MAIL first");
pub const RCPT_FIRST: Reply = Reply::new("503 5.5.1 RCPT first");
pub const NESTED_MAIL: Reply = Reply::new("503 5.5.1 only one MAIL command allowed");
pub const CHUNKS_BEGUN: Reply = Reply::new("503 5.5.1 the message has begun with BDAT");
pub const NO_AUTH: Reply = Reply::new("503 5.5.1 auth not available");
pub const AUTH_IN_MAIL: Reply = Reply::new("503 5.5.1 no auth during mail transaction");
pub const AUTH_ALREADY: Reply = Reply::new("503 5.5.1 you're already authenticated");
pub const TLS_AFTER_AUTH: Reply = Reply::new("503 5.5.1 no TLS after auth");
pub const TLS_ALREADY: Reply = Reply::new("503 5.5.1 TLS already active");
pub const EARLY_TALK: Reply = Reply::new("503 5.5.1 nothing may follow STARTTLS before its reply");
pub const NO_MECHANISM: Reply = Reply::new("504 5.5.4 auth type unimplemented");
pub const TLS_FIRST: Reply = Reply::new("530 5.7.0 Must issue a STARTTLS command first");
pub const AUTH_FIRST: Reply = Reply::new("530 5.7.0 Authentication required");
pub const AUTH_NEEDS_TLS: Reply = Reply::new("538 5.7.11 auth not available without TLS");
pub const NO_SUCH_MAILBOX: Reply = Reply::new("550 5.1.1 sorry, no mailbox here by that name");
pub const BARE_IN_BODY: Reply = Reply::new("550 5.5.2 bare CR or LF in the message");
pub const TOO_BIG: Reply =
    Reply::new("552 5.3.4 sorry, that message size exceeds my databytes limit");
pub const NOT_ASCII: Reply =
    Reply::new("553 5.6.7 sorry, an address beyond ASCII needs SMTPUTF8, which is not offered");
pub const BAD_MAIL_FROM: Reply =
    Reply::new("553 5.7.1 sorry, your envelope sender is in my badmailfrom list");
pub const NO_GATEWAY: Reply =
    Reply::new("553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts");
pub const TOO_MANY_HOPS: Reply = Reply::new("554 5.4.6 too many hops, this message is looping");
pub const UNKNOWN_PARAMETER: Reply = Reply::new("555 5.5.4 unsupported parameter");

pub const QUEUE_ADDRESS: Reply = Reply::new("554 5.1.3 envelope address too long for qq");
pub const QUEUE_REJECTED: Reply = Reply::new("554 5.3.0 mail server permanently rejected message");
pub const QUEUE_NO_KEY: Reply = Reply::new("554 5.3.5 private key file does not exist");
pub const QUEUE_PERMANENT: Reply = Reply::new("554 5.3.0 qq permanent problem");
pub const QUEUE_MEMORY: Reply = Reply::new("451 4.3.0 qq out of memory");
pub const QUEUE_TIMEOUT: Reply = Reply::new("451 4.3.0 qq timeout");
pub const QUEUE_DISK: Reply = Reply::new("451 4.3.0 qq write error or disk full");
pub const QUEUE_READ_ERROR: Reply = Reply::new("451 4.3.0 qq read error");
pub const QUEUE_CONFIGURATION: Reply = Reply::new("451 4.3.0 qq unable to read configuration");
pub const QUEUE_NETWORK: Reply = Reply::new("451 4.3.0 qq trouble making network connection");
pub const QUEUE_CHILD: Reply = Reply::new("451 4.3.0 qq trouble creating child process");
pub const QUEUE_PIPES: Reply = Reply::new("451 4.3.0 qq trouble creating pipes");
pub const QUEUE_HOME: Reply = Reply::new("451 4.3.0 qq trouble in home directory");
pub const QUEUE_FILES: Reply = Reply::new("451 4.3.0 qq trouble creating files in queue");
pub const QUEUE_PID_FILE: Reply = Reply::new("451 4.3.0 qq trouble with pid file");
pub const QUEUE_TEMPORARILY_REJECTED: Reply =
    Reply::new("451 4.3.0 mail server temporarily rejected message");
pub const QUEUE_SERVER_TIMEOUT: Reply = Reply::new("451 4.4.1 connection to mail server timed out");
pub const QUEUE_SERVER_REJECTED: Reply = Reply::new("451 4.4.1 connection to mail server rejected");
pub const QUEUE_SERVER_FAILED: Reply =
    Reply::new("451 4.4.2 communication with mail server failed");
pub const QUEUE_BUG: Reply = Reply::new("451 4.3.0 qq internal bug");
pub const QUEUE_EXEC: Reply = Reply::new("451 4.3.0 unable to exec qq");
pub const QUEUE_TEMPORARY: Reply = Reply::new("451 4.3.0 qq temporary problem");
pub const QUEUE_CRASHED: Reply = Reply::new("451 4.3.0 qq crashed");
pub const QUEUE_LOST: Reply = Reply::new("451 4.3.0 qq waitpid surprise");

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5321 4.2: the last line of a reply has a space behind its code, the others a hyphen.
    #[test]
    fn ehlo_lines_are_marked() {
        assert_eq!(ehlo("mx", &[]).to_string(), "250 mx");
        let two = ["PIPELINING".to_owned(), "SIZE 0".to_owned()];
        assert_eq!(ehlo("mx", &two).to_string(), "250-mx\r\n250-PIPELINING\r\n250 SIZE 0");
    }
}
