//! The conversation with the password process on SASLFD, whose lines are passed on.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::replies::{self, Reply};

/// The password process.
#[derive(Debug)]
pub struct PasswordProcess {
    socket: UnixStream,
    unread: Vec<u8>,
}

/// What it answers to AUTH, LINE and CANCEL.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The next challenge for the client, in base64.
    Challenge(Reply),
    /// The client is who it says it is.
    Accepted(Account),
    /// It is not, or the exchange is over for another reason.
    Refused(Reply),
}

/// Who has authenticated, and what the record of the account says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The login.
    pub login: Vec<u8>,
    /// RELAYCLIENT, DATABYTES and names that begin with AUTH_; nothing else.
    pub variables: Vec<(String, Vec<u8>)>,
}

impl Account {
    /// The value of one of its variables.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }
}

impl PasswordProcess {
    /// Speaks on this socket.
    pub fn new(socket: UnixStream) -> Self {
        Self { socket, unread: Vec::new() }
    }

    /// The mechanisms that may be offered now, by their names.
    pub fn mechanisms(&mut self) -> io::Result<Vec<String>> {
        self.say(&[b"MECHS"])?;
        let line = self.line()?;
        let names = line.strip_prefix(b"MECHS").and_then(|names| str::from_utf8(names).ok());
        let names = names.ok_or(ErrorKind::InvalidData)?;
        Ok(names.split_ascii_whitespace().filter(|name| is_name(name)).map(Into::into).collect())
    }

    /// Says the words of one line, and gives the answer; an error is the end of the service.
    pub fn ask(&mut self, words: &[&[u8]]) -> io::Result<Answer> {
        self.say(words)?;
        let mut account = Account::default();
        loop {
            let line = self.line()?;
            if let Some(variable) = line.strip_prefix(b"ENV ") {
                account.variables.extend(allowed(variable));
            } else if let Some(login) = line.strip_prefix(b"235 ") {
                account.login = login.to_vec();
                return Ok(Answer::Accepted(account));
            } else {
                return answer(&line).ok_or_else(|| ErrorKind::InvalidData.into());
            }
        }
    }

    fn say(&mut self, words: &[&[u8]]) -> io::Result<()> {
        let mut line = words.join(&b' ');
        line.push(b'\n');
        let said = self.socket.write_all(&line);
        // It may hold a password.
        line.fill(0);
        said
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now().checked_add(PATIENCE).ok_or(ErrorKind::TimedOut)?;
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.unread.drain(..=end).collect();
                line.pop();
                return Ok(line);
            }
            if self.unread.len() >= LINE_LIMIT {
                return Err(ErrorKind::InvalidData.into());
            }
            self.read_more(deadline)?;
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut asked = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut asked, timeout)? == 0 {
            return Err(ErrorKind::TimedOut.into());
        }
        let mut part = [0; 4096];
        let count = self.socket.read(&mut part)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(part.get(..count).unwrap_or_default());
        Ok(())
    }
}

/// A challenge or a refusal; only what can be said to a client.
fn answer(line: &[u8]) -> Option<Answer> {
    let text = str::from_utf8(line).ok()?;
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match text.split_once(' ') {
        Some(("334", _)) if printable => Some(Answer::Challenge(replies::passed_on(text))),
        Some((code, _)) if printable && REFUSALS.contains(&code) => {
            Some(Answer::Refused(replies::passed_on(text)))
        }
        _ => None,
    }
}

fn allowed(variable: &[u8]) -> Option<(String, Vec<u8>)> {
    let at = variable.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (str::from_utf8(variable.get(..at)?).ok()?, variable.get(at..)?);
    let known = ["RELAYCLIENT", "DATABYTES"].contains(&name) || name.starts_with("AUTH_");
    let value = value.strip_prefix(b"=")?.to_vec();
    (known && !value.contains(&0)).then(|| (name.to_owned(), value))
}

/// RFC 4422 3.1: a mechanism's name.
fn is_name(name: &str) -> bool {
    name.len() <= 20
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

const REFUSALS: [&str; 6] = ["432", "454", "500", "501", "504", "535"];

/// Longest line on SASLFD in bytes.
const LINE_LIMIT: usize = 16_384;

/// What the password process allows itself for one step, and half as much again.
const PATIENCE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use super::*;

    fn process(says: &[u8]) -> (PasswordProcess, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(says).unwrap();
        (PasswordProcess::new(ours), theirs)
    }

    fn asked(says: &[u8]) -> io::Result<Answer> {
        let (mut process, theirs) = process(says);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        process.ask(&[b"AUTH", b"PLAIN"])
    }

    #[test]
    fn mechanisms() {
        let (mut process, mut theirs) =
            process(b"MECHS SCRAM-SHA-256 PLAIN X\x07Y A;B\nMECHS\n250 MECHS\n");
        assert_eq!(process.mechanisms().unwrap(), ["SCRAM-SHA-256", "PLAIN"]);
        assert_eq!(process.mechanisms().unwrap(), [""; 0]);
        assert!(process.mechanisms().is_err());
        let mut said = [0; 18];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"MECHS\nMECHS\nMECHS\n");
    }

    #[test]
    fn answers() {
        let refused = |text| Answer::Refused(replies::passed_on(text));
        assert_eq!(asked(b"334 \n").unwrap(), Answer::Challenge(replies::passed_on("334 ")));
        assert_eq!(asked(b"535 5.7.8 no\n").unwrap(), refused("535 5.7.8 no"));
        assert_eq!(asked(b"454 4.7.0 later\n").unwrap(), refused("454 4.7.0 later"));
        let says = b"ENV DATABYTES=5\nENV PATH=/x\nENV RELAYCLIENT=\nENV AUTH_A=b=c\nENV AUTH_B\n235 u@x y\n";
        let variables = [("DATABYTES", "5"), ("RELAYCLIENT", ""), ("AUTH_A", "b=c")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
        let account = Account { login: b"u@x y".to_vec(), variables };
        assert_eq!(asked(says).unwrap(), Answer::Accepted(account));
        for says in [
            &b""[..],
            b"334 no end",
            b"235\n",
            b"250 ok\n",
            b"221 2.0.0 bye\n",
            b"535\n",
            b"535 5.7.8 a\x07b\n",
            b"535 5.7.8 a\rb\n",
            b"MECHS\n",
            &[b'x'; 20_000],
        ] {
            assert!(asked(says).is_err(), "{}", says.escape_ascii());
        }
    }

    #[test]
    fn one_that_has_ended_is_an_error() {
        let (mut process, theirs) = process(b"");
        drop(theirs);
        assert!(process.mechanisms().is_err() && process.ask(&[b"CANCEL"]).is_err());
    }
}
