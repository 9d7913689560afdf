//! One attempt from users.cdb to verdict, and its line in the log.

use std::ffi::OsString;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use plumb::log;
use plumb::ucspi::Ucspi;

use crate::record::Record;
use crate::store::Users;
use crate::verify::{Proof, Reason, compute, is_login, judge, wrong};

/// What becomes of an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// The client is who it says it is.
    Accepted(Box<Record>),
    /// It is not, or may not.
    Refused(Reason),
    /// Nobody can say just now, and why.
    Unavailable(String),
}

/// Judges one attempt; a database that cannot be read is no wrong password.
pub fn attempt(users: &Users, login: &[u8], proofs: &[Proof]) -> Verdict {
    let record = match find(users, login) {
        Ok(record) => record,
        Err(cause) => return Verdict::Unavailable(cause),
    };
    if proofs.iter().any(is_too_long) {
        return Verdict::Refused(wrong(record.as_ref()));
    }
    let mut refused = Reason::WrongPassword;
    for proof in proofs {
        match judge(login, proof, record.as_ref(), users.facts(), now(), compute) {
            Ok(Ok(())) => {
                let accepted = |record| Verdict::Accepted(Box::new(record));
                return record.map_or(Verdict::Refused(refused), accepted);
            }
            Ok(Err(reason)) => refused = reason,
            Err(unable) => return Verdict::Unavailable(unable.word().into()),
        }
    }
    Verdict::Refused(refused)
}

/// The record of a login that may be looked up at all; others are nobody's.
pub fn find(users: &Users, login: &[u8]) -> Result<Option<Record>, String> {
    let record = users.find(login).map_err(|cause| cause.to_string())?;
    Ok(record.filter(|_| is_login(login)))
}

/// Seconds of Unix time.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

/// What the log says about every attempt of one connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    remote_ip: Option<IpAddr>,
    tls: Option<OsString>,
}

impl Connection {
    /// The facts of this process' environment.
    pub fn of_process() -> Self {
        let tls = std::env::var_os("SSL_PROTOCOL");
        Self { remote_ip: Ucspi::of_process().remote_ip, tls }
    }

    /// `AUTH successful [ip] login mech=...`.
    pub fn successful(&self, login: &[u8], mechanism: &str) -> String {
        self.line("successful", Some(login), mechanism)
    }

    /// `AUTH failed [ip] login mech=... reason=...`; a login that may not exist is not shown: it may be a password.
    pub fn failed(&self, login: &[u8], mechanism: &str, reason: &str) -> String {
        let known = (![UNKNOWN_USER, REFUSED].contains(&reason)).then_some(login);
        format!("{} reason={reason}", self.line("failed", known, mechanism))
    }

    /// `AUTH unavailable [ip] - mech=... reason=...`.
    pub fn unavailable(&self, mechanism: &str, cause: &str) -> String {
        format!("{} reason=\"{cause}\"", self.line("unavailable", None, mechanism))
    }

    fn line(&self, event: &str, login: Option<&[u8]>, mechanism: &str) -> String {
        let ip = self.remote_ip.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
        let login = login.map_or_else(|| "-".to_owned(), |login| log::value(login, SHOWN_MAX));
        let tls = self
            .tls
            .as_ref()
            .map_or_else(|| "none".to_owned(), |tls| log::value(tls.as_encoded_bytes(), SHOWN_MAX));
        format!("AUTH {event} [{ip}] {login} mech={mechanism} tls={tls}")
    }
}

impl Reason {
    /// The word for the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownUser => UNKNOWN_USER,
            Self::WrongPassword => "wrong-password",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::RefusedByProgram => REFUSED,
        }
    }
}

fn is_too_long(proof: &Proof) -> bool {
    matches!(proof, Proof::Password(password) if password.len() > PASSWORD_MAX)
}

/// Longest password in bytes: $6$ takes time with its square.
pub const PASSWORD_MAX: usize = 1_024;

const UNKNOWN_USER: &str = "unknown-user";
const REFUSED: &str = "refused";

/// Longest login or protocol in a log line, escapes included.
const SHOWN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    // The form that fail2ban filters for qmail's servers look for: `AUTH failed [IP] user`.
    #[test]
    fn lines() {
        let connection =
            Connection { remote_ip: Some([192, 0, 2, 1].into()), tls: Some("TLSv1.3".into()) };
        assert_eq!(
            connection.failed(b"u@x.org", "PLAIN", "wrong-password"),
            "AUTH failed [192.0.2.1] u@x.org mech=PLAIN tls=TLSv1.3 reason=wrong-password"
        );
        assert_eq!(
            connection.failed(b"hunter2", "LOGIN", "unknown-user"),
            "AUTH failed [192.0.2.1] - mech=LOGIN tls=TLSv1.3 reason=unknown-user"
        );
        // The program behind -x does not say whether there is such a login.
        assert_eq!(
            connection.failed(b"hunter2", "LOGIN", Reason::RefusedByProgram.word()),
            "AUTH failed [192.0.2.1] - mech=LOGIN tls=TLSv1.3 reason=refused"
        );
        assert_eq!(
            Connection::default().successful(b"a b]\nAUTH", "PLAIN"),
            "AUTH successful [unknown] a\\x20b]\\x0aAUTH mech=PLAIN tls=none"
        );
        assert_eq!(
            connection.unavailable("PLAIN", "x"),
            "AUTH unavailable [192.0.2.1] - mech=PLAIN tls=TLSv1.3 reason=\"x\""
        );
    }
}
