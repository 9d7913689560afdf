//! recordio's shape: the parent becomes the next program and keeps its pid, the child relays.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use crate::die::{Doing, Error, Result};
use crate::fds;
use crate::packet::wait_readable;
use crate::process::{Fork, Program, fork};

/// What the relaying child holds: the client's side and the program's.
#[derive(Debug)]
pub struct Ends {
    /// Descriptor 0: what the client says.
    pub from_client: OwnedFd,
    /// Descriptor 1: what the client hears.
    pub to_client: OwnedFd,
    /// The socket whose other end is the program's 0 and 1.
    pub program: OwnedFd,
}

/// The child's word to its waiting parent.
#[derive(Debug)]
pub struct Word(OwnedFd);

/// Forks: the parent becomes the program, with its 0 and 1 on a socket; only the child returns with Ok.
///
/// An error is returned in the parent, under the program's pid.
pub fn split(program: Program) -> Result<Ends> {
    let (ours, theirs) = fds::socketpair().doing("make a socketpair")?;
    match fork().doing("fork")? {
        Fork::Child => Ends::new(ours),
        Fork::Parent(_) => Err(become_program(program, Some(theirs))),
    }
}

/// As split(), but the program starts only when the child, prepared and locked in, has said that it will relay.
///
/// Where the child stands aside, the program keeps the client's own 0 and 1; so it does, after `unheard`, where the child dies or says
/// nothing for `patience`.
pub fn split_if(
    program: Program,
    patience: Duration,
    unheard: impl FnOnce(),
) -> Result<(Ends, Word)> {
    let (ours, theirs) = fds::socketpair().doing("make a socketpair")?;
    let (ear, mouth) = fds::socketpair().doing("make a socketpair")?;
    match fork().doing("fork")? {
        Fork::Child => {
            drop((theirs, ear));
            Ok((Ends::new(ours)?, Word(mouth)))
        }
        Fork::Parent(_) => {
            drop((ours, mouth));
            let word = heard(&ear, patience);
            if word.is_none() {
                unheard();
            }
            Err(become_program(program, (word == Some(RELAY)).then_some(theirs)))
        }
    }
}

impl Word {
    /// Tells the parent to put the relay in front of the program; false where it has gone on without, and then nothing may be read from the client.
    #[must_use]
    pub fn relay(self) -> bool {
        self.say(RELAY)
    }

    /// Tells the parent to go on without a relay.
    pub fn stand_aside(self) {
        // A parent that has gone on already has done so without a relay, too.
        self.say(ASIDE);
    }

    fn say(self, word: u8) -> bool {
        send(self.0.as_raw_fd(), &[word], MsgFlags::MSG_NOSIGNAL) == Ok(1)
    }
}

impl AsRawFd for Word {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Ends {
    fn new(program: OwnedFd) -> Result<Self> {
        Ok(Self {
            from_client: fds::adopt(libc::STDIN_FILENO).doing("take descriptor 0")?,
            to_client: fds::adopt(libc::STDOUT_FILENO).doing("take descriptor 1")?,
            program,
        })
    }

    /// Closes every descriptor but these, the log and those given by number.
    pub fn close_others(&self, keep: &[RawFd]) -> io::Result<()> {
        let ours = [&self.from_client, &self.to_client, &self.program].map(AsRawFd::as_raw_fd);
        fds::close_all_but(&[&ours[..], &[libc::STDERR_FILENO], keep].concat())
    }
}

fn become_program(program: Program, socket: Option<OwnedFd>) -> Error {
    let Some(socket) = socket else { return program.exec() };
    match program.stdio(socket) {
        Ok(program) => program.exec(),
        Err(cause) => Error::unable("copy a descriptor", &cause),
    }
}

/// What the child has said. After the shutdown it cannot say anything any more, so both always know the same.
fn heard(ear: &OwnedFd, patience: Duration) -> Option<u8> {
    // Too late, ended and silent are told apart below.
    wait_readable(ear.as_fd(), Instant::now().checked_add(patience)).ok();
    let mut word = [0];
    shutdown(ear.as_raw_fd(), Shutdown::Read).ok()?;
    let said = recv(ear.as_raw_fd(), &mut word, MsgFlags::MSG_DONTWAIT) == Ok(1);
    said.then_some(word[0])
}

/// The one byte between child and parent: a relay comes in between, or not.
const RELAY: u8 = b'R';
const ASIDE: u8 = b'A';
