//! A checkpassword program in place of users.cdb: the locked-in process asks, a process outside the sandbox runs it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use plumb::errand::{Errand, environment};
use plumb::fds::{recv_packet, send_packet};
use plumb::process::Ended;
use zeroize::Zeroize;

use crate::attempt::Verdict;
use crate::request::{Order, REQUEST_MAX, write};
use crate::verify::{Proof, Reason};

/// The asking side.
#[derive(Debug)]
pub struct Delegate {
    runner: OwnedFd,
    order: Order,
}

impl Delegate {
    /// Asks by this socket; CRAM-MD5's fields in this order.
    pub fn new(runner: OwnedFd, order: Order) -> Self {
        Self { runner, order }
    }

    /// The socket.
    pub fn descriptor(&self) -> RawFd {
        self.runner.as_raw_fd()
    }

    /// Has the program judge one attempt.
    pub fn judge(&self, login: &[u8], proof: &Proof) -> Verdict {
        let mut answer = [0; 2];
        let asked = send_packet(&self.runner, &write(login, proof, self.order), &[]);
        let heard = asked.and_then(|()| recv_packet(&self.runner, &mut answer, None));
        match (heard, answer) {
            (Ok(Some((2, _))), [EXITED, code]) => match code {
                0 => Verdict::Accepted(Box::default()),
                MISUSED | FAILURES.. => {
                    Verdict::Unavailable(format!("the program ended with {code}"))
                }
                _ => Verdict::Refused(Reason::RefusedByProgram),
            },
            (Ok(Some((2, _))), [KILLED, signal]) => {
                Verdict::Unavailable(format!("signal {signal} killed the program"))
            }
            (Ok(Some((2, _))), [HUNG, _]) => Verdict::Unavailable("the program hung".into()),
            _ => Verdict::Unavailable("the program could not be run".into()),
        }
    }
}

/// The running side: runs `argv` for each packet, with its bytes on descriptor 3, until the other side ends.
pub fn run(asker: &OwnedFd, argv: &[OsString]) {
    let mut request = vec![0; REQUEST_MAX.saturating_mul(2)];
    while let Ok(Some((length, _))) = recv_packet(asker, &mut request, None) {
        let answer = match judge(argv, request.get(..length).unwrap_or_default()) {
            Ok(Some(Ended::Code(code))) => [EXITED, code],
            Ok(Some(Ended::Signal(signal))) => [KILLED, u8::try_from(signal).unwrap_or(0)],
            Ok(None) => [HUNG, 0],
            Err(_) => [UNABLE, 0],
        };
        request.zeroize();
        request.resize(REQUEST_MAX.saturating_mul(2), 0);
        if send_packet(asker, &answer, &[]).is_err() {
            break;
        }
    }
}

fn judge(argv: &[OsString], request: &[u8]) -> std::io::Result<Option<Ended>> {
    let (theirs, ours) = std::io::pipe()?;
    let nothing: [(OsString, OsString); 0] = [];
    let environment = environment(&["AUTH_UID", "AUTH_GID"], nothing);
    let errand = Errand::start_group(argv, &environment, &[(theirs.as_fd(), 3)])?;
    drop(theirs);
    // A program that does not read its request says so by its exit code.
    File::from(OwnedFd::from(ours)).write_all(request).ok();
    match errand.wait_until(Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now))? {
        Some(ended) => Ok(Some(ended)),
        None => errand.end(Duration::ZERO).map(|_| None),
    }
}

/// What has become of the program: the first of an answer's two bytes.
const EXITED: u8 = b'E';
const KILLED: u8 = b'K';
const HUNG: u8 = b'H';
const UNABLE: u8 = b'U';

/// checkpassword's exit codes: 2 misused, 111 temporary; shells add 126 and 127. cvm's programs refuse with 100, vchkpw with 3 to 20.
const MISUSED: u8 = 2;
const FAILURES: u8 = 101;

/// How long a program may take: half of what a step may.
const PATIENCE: Duration = Duration::from_secs(30);
