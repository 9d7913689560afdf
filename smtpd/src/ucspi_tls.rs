//! STARTTLS through a UCSPI-TLS server: ask on SSLCTLFD, then read and write elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The descriptors that a UCSPI-TLS server gave, close-on-exec.
#[derive(Debug)]
pub struct Server {
    control: File,
    read: RawFd,
    write: RawFd,
}

impl Server {
    /// What SSLCTLFD, SSLREADFD and SSLWRITEFD name; none where SSLCTLFD is not set.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> io::Result<Option<Self>> {
        let number = |name: &str| {
            env(name).map(|value| {
                value.to_str().and_then(|digits| digits.parse::<RawFd>().ok()).ok_or_else(|| {
                    io::Error::new(ErrorKind::InvalidInput, format!("{name} is no number"))
                })
            })
        };
        let Some(control) = number("SSLCTLFD").transpose()? else { return Ok(None) };
        let read = number("SSLREADFD").transpose()?.unwrap_or(control);
        let write = number("SSLWRITEFD").transpose()?.unwrap_or(control);
        for n in [read, write] {
            plumb::fds::set_cloexec(n)?;
        }
        Ok(Some(Self { control: plumb::fds::adopt(control)?.into(), read, write }))
    }

    /// Has the server begin TLS; then descriptors 0 and 1 are its plaintext side.
    ///
    /// Gives the variables that describe the handshake.
    pub fn start(mut self) -> io::Result<Vec<(OsString, OsString)>> {
        self.control.write_all(b"Y")?;
        let answer = self.answer()?;
        for (n, target) in [(self.read, 0), (self.write, 1)] {
            plumb::fds::copy_to(n, target)?;
        }
        Ok(variables(&answer))
    }

    /// NUL-ended entries up to an empty one or to the end; nothing at all is a failed handshake.
    fn answer(&mut self) -> io::Result<Vec<u8>> {
        let now = Instant::now();
        let deadline = now.checked_add(HANDSHAKE).unwrap_or(now);
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while answer.len() < ANSWER_LIMIT && !answer.ends_with(b"\0\0") {
            wait_readable(&self.control, deadline)?;
            match self.control.read(&mut part)? {
                0 if answer.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                0 => break,
                count => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
            }
        }
        Ok(answer)
    }
}

fn wait_readable(control: &File, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(control.as_fd(), PollFlags::POLLIN)], timeout)? {
        0 => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Entries without `=` mean that a variable is not set.
fn variables(answer: &[u8]) -> Vec<(OsString, OsString)> {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    answer
        .split(|&byte| byte == 0)
        .filter_map(|entry| {
            let equals = entry.iter().position(|&byte| byte == b'=')?;
            let (name, value) = entry.split_at_checked(equals)?;
            name.starts_with(b"SSL").then(|| (text(name), text(value.get(1..).unwrap_or_default())))
        })
        .collect()
}

/// A handshake has 30 seconds in all.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// ucspi-ssl sends 2 to 6 kB.
const ANSWER_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_both_dialects() {
        let answer = b"SSL_PROTOCOL=TLSv1.3\0SSL_TLS_SNI_SERVERNAME\0SSL_CIPHER=A=B\0X=y\0\0";
        let found = variables(answer);
        assert_eq!(
            found,
            [("SSL_PROTOCOL".into(), "TLSv1.3".into()), ("SSL_CIPHER".into(), "A=B".into()),]
        );
        assert_eq!(variables(b"\0\0"), []);
        // s/qmail, aQmail and acceptutils saw only what ended in the first half.
        assert_eq!(variables(b"SSL_PROTOCOL=TLSv1.3\0\0").len(), 1);
        assert_eq!(variables(b"SSL_A=a\0SSL_B=b\0SSL_C=c\0SSL_D=d\0SSL_E=e\0\0").len(), 5);
    }
}
