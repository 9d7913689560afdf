//! Move bytes between a client and a program, through somebody who looks at them.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use nix::unistd::{read, write};

use crate::fds::is_socket;

/// The two sides of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// The program that serves.
    Server,
}

/// Somebody in the middle: is shown what each side sends and says what the other gets.
pub trait Middle {
    /// These bytes came from this side.
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox);
    /// This side will send nothing more; where that is the end of all, say so by `stop`.
    fn eof(&mut self, from: Side, out: &mut Outbox);
    /// The connection to this side broke off.
    fn lost(&mut self, from: Side, _error: &io::Error, out: &mut Outbox) {
        self.eof(from, out);
    }
    /// Whether more of this side can be taken now.
    fn accepts(&self, from: Side) -> bool;
    /// How long both sides may be silent from now on.
    fn patience(&self) -> Duration;
    /// Both sides were silent for that long.
    fn expired(&mut self, out: &mut Outbox);
    /// The watched descriptor has something to say, or its other end is gone.
    fn alarmed(&mut self, _out: &mut Outbox) {}
}

/// What is on its way out.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Bytes for the client.
    pub client: Vec<u8>,
    /// Bytes for the program.
    pub server: Vec<u8>,
    /// The program gets no more than this: tell it so once it has it.
    pub hang_up: bool,
    /// The relay is over once the client has its bytes.
    pub stop: bool,
    /// The program says nothing more: tell the client so once it has its bytes; over when the program reads no more either.
    pub half_close: bool,
}

/// Why a relay is over.
#[derive(Debug)]
pub enum Ending {
    /// The one in the middle said so, and the client has all that was said.
    Stopped,
    /// The client could not be reached any more, and the program is done.
    ClientLost(io::Error),
}

/// One side's descriptors.
#[derive(Debug)]
pub struct End<'fd> {
    input: BorrowedFd<'fd>,
    output: BorrowedFd<'fd>,
    input_is_socket: bool,
    output_is_socket: bool,
    readable: bool,
    writable: bool,
}

impl<'fd> End<'fd> {
    /// A side that is read from one descriptor and written to another, or to the same.
    pub fn new(input: BorrowedFd<'fd>, output: BorrowedFd<'fd>) -> End<'fd> {
        End {
            input,
            output,
            input_is_socket: is_socket(input),
            output_is_socket: is_socket(output),
            readable: true,
            writable: true,
        }
    }

    /// A side that is one socket.
    pub fn socket(socket: BorrowedFd<'fd>) -> End<'fd> {
        End::new(socket, socket)
    }

    /// Reads what is there, at most `buffer.len()` bytes; none when nothing is there.
    ///
    /// # Errors
    /// Those of recv(2) and read(2); 0 bytes mean the end.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let got = if self.input_is_socket {
            recv(self.input.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)
        } else {
            read(self.input, buffer)
        };
        later(got)
    }

    /// Writes what can be written without waiting; none when nothing can.
    ///
    /// On anything but a socket this must follow a poll(2) that allowed it.
    ///
    /// # Errors
    /// Those of send(2) and write(2).
    pub fn transmit(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = if self.output_is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(self.output.as_raw_fd(), bytes, flags)
        } else {
            write(self.output, bytes.get(..ATOMIC).unwrap_or(bytes))
        };
        later(sent)
    }

    /// Whether bytes are waiting that nobody has read.
    pub fn has_unread(&self) -> bool {
        if self.input_is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
            return matches!(recv(self.input.as_raw_fd(), &mut [0], flags), Ok(1..));
        }
        let mut fds = [PollFd::new(self.input, PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
            && fds.iter().any(|fd| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
    }

    /// Closes a connection so that nothing sent is lost: SHUT_WR, then read until the peer closes,
    /// for at most 2 s and 64 KiB.
    pub fn finish(&mut self) {
        self.shut_down_output();
        let deadline = after(LINGER);
        let mut buffer = vec![0; BLOCK];
        let mut left = BLOCK;
        while self.readable && self.input_is_socket && left > 0 {
            if !matches!(wait(self.input, PollFlags::POLLIN, deadline), Ok(true)) {
                return;
            }
            match self.receive(&mut buffer) {
                Ok(Some(0)) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count.unwrap_or(0)),
            }
        }
    }

    fn shut_down_output(&mut self) {
        if self.writable && self.output_is_socket {
            // A peer that is gone already needs no telling.
            let _ = shutdown(self.output.as_raw_fd(), Shutdown::Write);
        }
        self.writable = false;
    }
}

/// Relays until the middle stops it, or both sides are gone.
///
/// # Errors
/// Only poll(2)'s; trouble with either side is an ending, or ends that direction alone.
pub fn relay(
    client: &mut End<'_>,
    server: &mut End<'_>,
    watch: Option<BorrowedFd<'_>>,
    middle: &mut impl Middle,
    out: &mut Outbox,
) -> io::Result<Ending> {
    let mut buffer = vec![0; BLOCK];
    let mut state = State { watch, lost: None, deadline: after(middle.patience()) };
    loop {
        state.flush(client, server, out);
        if let Some(ending) = state.over(client, server, out) {
            return Ok(ending);
        }
        let ready = state.poll(client, server, middle, out)?;
        if ready.server_gone {
            // Nobody is left to hear the client.
            server.writable = false;
            continue;
        }
        state.send(client, server, out, &ready);
        if ready.client_in
            && let Err(error) = take(Side::Client, client, &mut buffer, middle, out)
        {
            state.lose(client, out, error);
        }
        if ready.server_in && take(Side::Server, server, &mut buffer, middle, out).is_err() {
            // A reset is an end like any other: the program has said what it had to say.
            server.writable = false;
        }
        if ready.alarm {
            state.watch = None;
            middle.alarmed(out);
        }
        if ready.any() {
            state.deadline = after(middle.patience());
        } else if Instant::now() >= state.deadline {
            state.expire(client, middle, out);
        }
    }
}

struct State<'fd> {
    watch: Option<BorrowedFd<'fd>>,
    lost: Option<io::Error>,
    deadline: Instant,
}

/// Which descriptors poll(2) named.
#[derive(Default)]
struct Ready {
    client_in: bool,
    client_out: bool,
    server_in: bool,
    server_out: bool,
    alarm: bool,
    server_gone: bool,
}

impl Ready {
    fn any(&self) -> bool {
        self.client_in
            || self.client_out
            || self.server_in
            || self.server_out
            || self.alarm
            || self.server_gone
    }
}

impl State<'_> {
    /// Writes at once what sockets take; pipes wait for poll(2) to allow it.
    fn flush(&mut self, client: &mut End<'_>, server: &mut End<'_>, out: &mut Outbox) {
        let sockets = Ready {
            client_out: client.output_is_socket,
            server_out: server.output_is_socket,
            ..Ready::default()
        };
        self.send(client, server, out, &sockets);
        if out.hang_up && out.server.is_empty() {
            server.shut_down_output();
        }
        if out.half_close && out.client.is_empty() {
            client.shut_down_output();
        }
    }

    fn send(
        &mut self,
        client: &mut End<'_>,
        server: &mut End<'_>,
        out: &mut Outbox,
        ready: &Ready,
    ) {
        if ready.server_out
            && let Err(_gone) = drain(server, &mut out.server)
        {
            // The program reads no more, but may still have something to say.
            server.writable = false;
        }
        if ready.client_out
            && let Err(error) = drain(client, &mut out.client)
        {
            self.lose(client, out, error);
        }
        if !server.writable {
            out.server.clear();
        }
        if !client.writable {
            out.client.clear();
        }
    }

    /// Nobody is there any more: the program gets what was sent, and its end.
    fn lose(&mut self, client: &mut End<'_>, out: &mut Outbox, error: io::Error) {
        client.writable = false;
        client.readable = false;
        self.lost.get_or_insert(error);
        out.hang_up = true;
    }

    /// Time is up; for the second time, nobody can be told any more.
    fn expire(&mut self, client: &mut End<'_>, middle: &mut impl Middle, out: &mut Outbox) {
        if out.stop {
            self.lose(client, out, Errno::ETIMEDOUT.into());
        } else {
            middle.expired(out);
        }
        self.deadline = after(middle.patience());
    }

    fn over(&mut self, client: &End<'_>, server: &End<'_>, out: &Outbox) -> Option<Ending> {
        let listens = out.half_close && client.readable && server.writable;
        let nobody = !client.writable && !server.readable && !listens;
        if !(nobody || out.stop && out.client.is_empty()) {
            return None;
        }
        Some(self.lost.take().map_or(Ending::Stopped, Ending::ClientLost))
    }

    fn poll(
        &self,
        client: &End<'_>,
        server: &End<'_>,
        middle: &impl Middle,
        out: &Outbox,
    ) -> io::Result<Ready> {
        let from_client = !out.stop
            && client.readable
            && out.server.len() < BLOCK
            && out.client.len() < ANSWERS
            && middle.accepts(Side::Client);
        let from_server = !out.stop
            && server.readable
            && out.client.len() < BLOCK
            && middle.accepts(Side::Server);
        let wanted = [
            from_client.then(|| PollFd::new(client.input, PollFlags::POLLIN)),
            (!out.client.is_empty()).then(|| PollFd::new(client.output, PollFlags::POLLOUT)),
            from_server.then(|| PollFd::new(server.input, PollFlags::POLLIN)),
            (!out.server.is_empty()).then(|| PollFd::new(server.output, PollFlags::POLLOUT)),
            self.watch.map(|watch| PollFd::new(watch, PollFlags::POLLIN)),
            // POLLHUP needs no asking: the program has closed its socket altogether.
            (out.half_close && server.writable)
                .then(|| PollFd::new(server.output, PollFlags::empty())),
        ];
        let mut fds: Vec<PollFd<'_>> = wanted.iter().flatten().cloned().collect();
        match poll(&mut fds, until(self.deadline)) {
            Err(Errno::EINTR) => return Ok(Ready::default()),
            other => other?,
        };
        let mut polled = fds.iter();
        let mut ready = wanted
            .iter()
            .map(|want| want.is_some() && polled.next().is_some_and(|fd| fd.any().unwrap_or(true)));
        let mut next = || ready.next().unwrap_or(false);
        Ok(Ready {
            client_in: next(),
            client_out: next(),
            server_in: next(),
            server_out: next(),
            alarm: next(),
            server_gone: next(),
        })
    }
}

/// Reads once from a side and shows it to the middle.
fn take(
    side: Side,
    end: &mut End<'_>,
    buffer: &mut [u8],
    middle: &mut impl Middle,
    out: &mut Outbox,
) -> io::Result<()> {
    let received = end.receive(buffer);
    match received {
        Ok(None) => {}
        Ok(Some(count @ 1..)) => {
            middle.bytes(side, buffer.get(..count).unwrap_or_default(), out);
        }
        Ok(Some(0)) => {
            end.readable = false;
            middle.eof(side, out);
        }
        Err(ref error) => {
            end.readable = false;
            middle.lost(side, error, out);
        }
    }
    received.map(drop)
}

/// Writes from the front of a buffer as long as the side takes it.
fn drain(end: &End<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut sent: usize = 0;
    let result = loop {
        let rest = bytes.get(sent..).unwrap_or_default();
        if rest.is_empty() || !end.writable {
            break Ok(());
        }
        match end.transmit(rest) {
            Ok(None) => break Ok(()),
            Ok(Some(count)) => sent = sent.saturating_add(count),
            Err(error) => break Err(error),
        }
        if !end.output_is_socket {
            break Ok(());
        }
    };
    bytes.drain(..sent.min(bytes.len()));
    result
}

/// Waits until a descriptor is ready; false when the time is over.
///
/// # Errors
/// Those of poll(2).
pub fn wait(fd: BorrowedFd<'_>, what: PollFlags, deadline: Instant) -> io::Result<bool> {
    wait_for(&mut [PollFd::new(fd, what)], deadline)
}

/// As `wait`; false also when the other end of `peer` is gone.
///
/// # Errors
/// Those of poll(2).
pub fn wait_beside(
    peer: BorrowedFd<'_>,
    fd: BorrowedFd<'_>,
    what: PollFlags,
    deadline: Instant,
) -> io::Result<bool> {
    // Asked for no event, poll(2) tells of an end only.
    wait_for(&mut [PollFd::new(fd, what), PollFd::new(peer, PollFlags::empty())], deadline)
}

/// Whether the first of them is ready by then, and not only another one.
fn wait_for(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        match poll(fds, until(deadline)) {
            Err(Errno::EINTR) => {}
            Ok(0) if Instant::now() < deadline => {}
            Ok(_) => return Ok(fds.first().and_then(PollFd::any).unwrap_or(false)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The moment this long from now.
pub fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

fn until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    // Rounded up, so that a wait never ends just before its time.
    let millis = left.as_millis().saturating_add(1);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

fn later(result: nix::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How much is read at once, and kept for a side before the other is read again.
const BLOCK: usize = 64 * 1024;

/// How much the middle's own answers to a client that does not read may grow to: more than what the program's words alone
/// come to, so that without such answers neither direction waits for the other.
const ANSWERS: usize = 4 * BLOCK;

/// What a pipe takes without blocking once poll(2) has allowed it (PIPE_BUF).
const ATOMIC: usize = 4096;

/// How long a closed connection is waited for.
const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// Passes everything on, and answers a silence.
    struct Copy {
        patience: Duration,
        half_close: bool,
    }

    impl Middle for Copy {
        fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox) {
            match from {
                Side::Client => out.server.extend_from_slice(bytes),
                Side::Server => out.client.extend_from_slice(bytes),
            }
        }
        fn eof(&mut self, from: Side, out: &mut Outbox) {
            match from {
                Side::Client => out.hang_up = true,
                Side::Server if self.half_close => out.half_close = true,
                Side::Server => out.stop = true,
            }
        }
        fn accepts(&self, _from: Side) -> bool {
            true
        }
        fn patience(&self) -> Duration {
            self.patience
        }
        fn expired(&mut self, out: &mut Outbox) {
            out.client.extend_from_slice(b"too late");
            out.stop = true;
        }
        fn alarmed(&mut self, out: &mut Outbox) {
            out.client.extend_from_slice(b"alarm");
            out.stop = true;
        }
    }

    struct Chain {
        client: UnixStream,
        program: UnixStream,
        alarm: UnixStream,
        relay: thread::JoinHandle<Ending>,
    }

    fn chain(patience: Duration) -> Chain {
        chain_through(Copy { patience, half_close: false })
    }

    fn chain_through(mut copy: Copy) -> Chain {
        let (client, near) = UnixStream::pair().unwrap();
        let (program, far) = UnixStream::pair().unwrap();
        let (alarm, watch) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || {
            let (mut client, mut server) = (End::socket(near.as_fd()), End::socket(far.as_fd()));
            let mut out = Outbox::default();
            relay(&mut client, &mut server, Some(watch.as_fd()), &mut copy, &mut out).unwrap()
        });
        Chain { client, program, alarm, relay }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn rest(mut stream: &UnixStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }

    // DESIGN 2: client half-close: shutdown(SHUT_WR) towards the program, replies go on.
    #[test]
    fn a_half_close_passes_and_replies_go_on() {
        let mut chain = chain(LONG);
        chain.client.write_all(b"QUIT").unwrap();
        chain.client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&chain.program), b"QUIT");
        chain.program.write_all(b"221 bye").unwrap();
        drop(chain.program);
        assert_eq!(rest(&chain.client), b"221 bye");
        assert!(matches!(chain.relay.join().unwrap(), Ending::Stopped));
    }

    // A client that reads slowly gets all that the program said before it ended.
    #[test]
    fn a_program_that_has_ended_is_still_heard_to_its_end() {
        let mut chain = chain_through(Copy { patience: LONG, half_close: true });
        let said = vec![b'x'; 1_000_000];
        thread::scope(|scope| {
            let reader = scope.spawn(|| rest(&chain.client));
            chain.program.write_all(&said).unwrap();
            chain.program.shutdown(std::net::Shutdown::Both).unwrap();
            assert!(reader.join().unwrap() == said);
        });
        assert!(matches!(chain.relay.join().unwrap(), Ending::Stopped));
    }

    #[test]
    fn a_program_that_says_no_more_still_listens_until_it_closes() {
        let mut chain = chain_through(Copy { patience: LONG, half_close: true });
        chain.program.write_all(b"bye").unwrap();
        chain.program.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(rest(&chain.client), b"bye");
        chain.client.write_all(b"still here").unwrap();
        let mut heard = [0; 10];
        chain.program.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still here");
        drop(chain.program);
        assert!(matches!(chain.relay.join().unwrap(), Ending::Stopped));
    }

    // DESIGN 2: EPIPE towards a program only stops the writing, so a last 221 or 421 is never lost.
    #[test]
    fn a_program_that_reads_no_more_is_still_heard() {
        let mut chain = chain(LONG);
        chain.program.shutdown(std::net::Shutdown::Read).unwrap();
        chain.client.write_all(&[b'x'; 100_000]).unwrap();
        chain.program.write_all(b"421 last words").unwrap();
        drop(chain.program);
        assert_eq!(rest(&chain.client), b"421 last words");
    }

    // DESIGN 6.2: full queues stop the reading, never the session.
    #[test]
    fn megabytes_pass_both_ways_through_slow_readers() {
        let chain = chain(LONG);
        let sent: Vec<u8> = (0u8..=255).cycle().take(3_000_000).collect();
        thread::scope(|scope| {
            for (from, to) in [(&chain.client, &chain.program), (&chain.program, &chain.client)] {
                let sent = &sent;
                scope.spawn(move || (&*from).write_all(sent).unwrap());
                scope.spawn(move || {
                    let mut got = vec![0; sent.len()];
                    (&*to).read_exact(&mut got).unwrap();
                    assert!(got == *sent);
                });
            }
        });
        drop(chain.program);
        chain.relay.join().unwrap();
    }

    #[test]
    fn a_lost_client_gives_the_program_its_end() {
        let mut chain = chain(LONG);
        chain.program.write_all(&[b'x'; 10]).unwrap();
        // Unread bytes make the close a reset.
        let mut byte = [0];
        chain.client.read_exact(&mut byte).unwrap();
        drop(chain.client);
        assert_eq!(rest(&chain.program), b"");
        drop(chain.program);
        assert!(matches!(chain.relay.join().unwrap(), Ending::ClientLost(_)));
    }

    #[test]
    fn silence_and_alarms_reach_the_middle() {
        let quiet = chain(Duration::from_millis(1));
        assert_eq!(rest(&quiet.client), b"too late");
        let alarmed = chain(LONG);
        drop(alarmed.alarm);
        assert_eq!(rest(&alarmed.client), b"alarm");
    }
}
