//! qmail-queue's protocol: the message on 0, then the envelope on 1, and what its end means.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plumb::errand::Errand;
use plumb::process::Ended;

use crate::replies::{self, Reply};

/// A queue program at work. Nothing is queued unless `close` has sent the whole envelope.
#[derive(Debug)]
pub struct Queue {
    errand: Errand,
    message: PipeWriter,
    envelope: PipeWriter,
    /// What it says of its failure, on 6 (notqmail) and 4 (netqmail).
    complaint: PipeReader,
    patience: Patience,
    broken: bool,
}

/// How long a queue program may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To take a block of the message: less than the client's 3 minutes (RFC 5321 4.5.3.2.5).
    pub block: Duration,
    /// To end, once it has everything: less than the client's 10 minutes (RFC 5321 4.5.3.2.6).
    pub end: Duration,
    /// To end, once it was told to.
    pub last: Duration,
}

/// What smtpd allows.
pub const PATIENCE: Patience = Patience {
    block: Duration::from_secs(150),
    end: Duration::from_secs(540),
    last: Duration::from_secs(5),
};

/// How a message ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The queue has it.
    Queued,
    /// It has not, and this is why.
    Failed(Reply),
}

impl Queue {
    /// Starts the program.
    pub fn open(
        program: &OsStr,
        environment: &[(OsString, OsString)],
        patience: Patience,
    ) -> io::Result<Self> {
        let (message_end, message) = io::pipe()?;
        let (envelope_end, envelope) = io::pipe()?;
        let (complaint, complaint_end) = io::pipe()?;
        for ours in [message.as_fd(), envelope.as_fd(), complaint.as_fd()] {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let descriptors = [
            (message_end.as_fd(), 0),
            (envelope_end.as_fd(), 1),
            (complaint_end.as_fd(), 4),
            (complaint_end.as_fd(), 6),
        ];
        let errand = Errand::start(program, environment, &descriptors)?;
        Ok(Self { errand, message, envelope, complaint, patience, broken: false })
    }

    /// The program's process number, the `qp` of the reply.
    pub fn pid(&self) -> u32 {
        self.errand.pid()
    }

    /// Writes a part of the message; where that fails, the rest goes nowhere and `close` will tell.
    pub fn write(&mut self, text: &[u8]) {
        self.broken = self.broken || send(&mut self.message, text, self.patience.block).is_err();
    }

    /// Ends the message, sends the envelope and waits for the program's verdict.
    pub fn close(mut self, sender: &[u8], recipients: &[Vec<u8>]) -> Outcome {
        drop(self.message);
        if !self.broken {
            let envelope = envelope(sender, recipients);
            self.broken = send(&mut self.envelope, &envelope, self.patience.block).is_err();
        }
        drop(self.envelope);
        match ended(self.errand, self.patience.end, self.patience.last) {
            Ok((Ended::Code(0), _)) if !self.broken => Outcome::Queued,
            Ok((Ended::Code(0), _)) => Outcome::Failed(replies::QUEUE_READ_ERROR),
            Ok((Ended::Code(code), _)) => {
                Outcome::Failed(explain(code, || complaint(self.complaint)))
            }
            Ok((Ended::Signal(_), Haste::Ours)) => Outcome::Failed(replies::QUEUE_TIMEOUT),
            Ok((Ended::Signal(_), Haste::None)) => Outcome::Failed(replies::QUEUE_CRASHED),
            Err(_) => Outcome::Failed(replies::QUEUE_LOST),
        }
    }

    /// Gives the message up: without the end of an envelope the program queues nothing.
    pub fn abort(self) {
        drop((self.message, self.envelope));
        // Nothing was promised to anybody, so it does not matter how it ends.
        ended(self.errand, self.patience.last, self.patience.last).ok();
    }
}

/// Whether the program was made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    None,
    Ours,
}

/// It may have queued the message in its last moment: how it ends is what counts.
fn ended(errand: Errand, time: Duration, last: Duration) -> io::Result<(Ended, Haste)> {
    match errand.wait_until(after(time))? {
        Some(ended) => Ok((ended, Haste::None)),
        None => errand.end(last).map(|ended| (ended, Haste::Ours)),
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

fn envelope(sender: &[u8], recipients: &[Vec<u8>]) -> Vec<u8> {
    let mut envelope = [b"F", sender, b"\0"].concat();
    for recipient in recipients {
        envelope.push(b'T');
        envelope.extend_from_slice(recipient);
        envelope.push(0);
    }
    envelope.push(0);
    envelope
}

/// Writes everything, as long as the reader takes something within `patience`.
fn send(pipe: &mut PipeWriter, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_writable(pipe.as_fd(), patience)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_writable(pipe: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let mut asked = [PollFd::new(pipe, PollFlags::POLLOUT)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut asked, timeout)? {
        0 => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// What the program has written on 6 or 4, in printable ASCII: it goes into a reply.
fn complaint(mut from: PipeReader) -> String {
    let mut raw = [0; COMPLAINT_LIMIT];
    let length = from.read(&mut raw).unwrap_or(0);
    let text = raw.iter().take(length).filter(|byte| matches!(byte, b' '..=b'~'));
    text.map(|&byte| char::from(byte)).collect()
}

/// qmail's words for the exit codes of qmail-queue and its descendants.
fn explain(code: u8, complaint: impl FnOnce() -> String) -> Reply {
    match code {
        11 | 115 => replies::QUEUE_ADDRESS,
        31 => replies::QUEUE_REJECTED,
        32 => replies::QUEUE_NO_KEY,
        12..=40 => replies::QUEUE_PERMANENT,
        51 => replies::QUEUE_MEMORY,
        52 => replies::QUEUE_TIMEOUT,
        53 => replies::QUEUE_DISK,
        54 => replies::QUEUE_READ_ERROR,
        55 => replies::QUEUE_CONFIGURATION,
        56 => replies::QUEUE_NETWORK,
        58 => replies::QUEUE_CHILD,
        59 => replies::QUEUE_PIPES,
        61 => replies::QUEUE_HOME,
        62..=66 => replies::QUEUE_FILES,
        70 => replies::QUEUE_PID_FILE,
        71 => replies::QUEUE_TEMPORARILY_REJECTED,
        72 => replies::QUEUE_SERVER_TIMEOUT,
        73 => replies::QUEUE_SERVER_REJECTED,
        74 => replies::QUEUE_SERVER_FAILED,
        81 | 91 => replies::QUEUE_BUG,
        120 => replies::QUEUE_EXEC,
        82 | 88 => explained(&complaint()),
        _ => replies::QUEUE_TEMPORARY,
    }
}

/// `D` permanent, `Z` temporary, then the text (notqmail's qmail-queue(8)).
fn explained(complaint: &str) -> Reply {
    match complaint.split_at_checked(1) {
        Some(("D", text)) if text.len() > 1 => replies::from_queue(true, text.trim_end()),
        Some(("Z", text)) if text.len() > 1 => replies::from_queue(false, text.trim_end()),
        _ => replies::QUEUE_TEMPORARY,
    }
}

/// notqmail's limit for the text.
const COMPLAINT_LIMIT: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SHORT: Patience =
        Patience { block: Duration::ZERO, end: Duration::ZERO, last: Duration::from_millis(100) };

    fn queue(name: &str, text: &str) -> Queue {
        let path = std::env::temp_dir().join(format!("queue-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path_variable = [("PATH".into(), "/usr/bin:/bin".into())];
        Queue::open(path.as_os_str(), &path_variable, SHORT).unwrap()
    }

    fn close(queue: Queue) -> Outcome {
        queue.close(b"from@client.test", &[b"to@mx.test".to_vec()])
    }

    #[test]
    fn one_that_hangs_is_ended_and_its_message_was_not_queued() {
        let hangs = queue("hangs", "exec sleep 1000");
        assert_eq!(close(hangs), Outcome::Failed(replies::QUEUE_TIMEOUT));
    }

    #[test]
    fn one_that_does_not_read_stalls_nobody() {
        let mut deaf = queue("deaf", "exec sleep 1000");
        for _ in 0..100 {
            deaf.write(&[b'x'; 64 * 1024]);
        }
        assert!(deaf.broken);
        deaf.abort();
    }
}
