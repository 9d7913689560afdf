//! Move bytes between a client and a program, through somebody who looks at them.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::end::End;
use crate::middle::{Middle, Outbox, Patience, Side};
use crate::wait::{after, until};

/// Why a relay is over.
#[derive(Debug)]
pub enum Ending {
    /// The one in the middle said so, and the client has all that was said.
    Stopped,
    /// The client could not be reached any more, and the program is done.
    ClientLost(io::Error),
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
    let mut buffer = vec![0; FIRST_BLOCK];
    let mut state = State::new(watch, middle.patience());
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
        state.wait_anew(middle.patience(), &ready);
        if Instant::now() >= state.deadline {
            state.expire(client, middle, out);
        }
    }
}

struct State<'fd> {
    watch: Option<BorrowedFd<'fd>>,
    lost: Option<io::Error>,
    patience: Patience,
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

impl Patience {
    fn time(self) -> Duration {
        match self {
            Patience::Either(time) | Patience::Server(time) => time,
        }
    }

    fn renewed_by(self, ready: &Ready) -> bool {
        let server = ready.server_in || ready.server_out || ready.alarm;
        match self {
            Patience::Either(_) => server || ready.client_in || ready.client_out,
            Patience::Server(_) => server,
        }
    }
}

impl State<'_> {
    fn new(watch: Option<BorrowedFd<'_>>, patience: Patience) -> State<'_> {
        State { watch, lost: None, patience, deadline: after(patience.time()) }
    }

    fn wait_anew(&mut self, patience: Patience, ready: &Ready) {
        if patience != self.patience || patience.renewed_by(ready) {
            self.patience = patience;
            self.deadline = after(patience.time());
        }
    }

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
            && let Err(_gone) = server.drain(&mut out.server)
        {
            // The program reads no more, but may still have something to say.
            server.writable = false;
        }
        if ready.client_out
            && let Err(error) = client.drain(&mut out.client)
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
        self.patience = middle.patience();
        self.deadline = after(self.patience.time());
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
    buffer: &mut Vec<u8>,
    middle: &mut impl Middle,
    out: &mut Outbox,
) -> io::Result<()> {
    let received = end.receive(buffer);
    match received {
        Ok(None) => {}
        Ok(Some(count @ 1..)) => {
            middle.bytes(side, buffer.get(..count).unwrap_or_default(), out);
            if count == buffer.len() && count < BLOCK {
                buffer.resize(BLOCK, 0);
            }
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

/// How much is read at once until somebody sends as much: most sessions are short, and memory that nobody touches costs nothing.
const FIRST_BLOCK: usize = 4 * 1024;

/// How much is read at once, and kept for a side before the other is read again.
const BLOCK: usize = 64 * 1024;

/// How much the middle's own answers to a client that does not read may grow to: more than what the program's words alone
/// come to, so that without such answers neither direction waits for the other.
const ANSWERS: usize = 4 * BLOCK;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// Passes everything on, and answers a silence.
    struct Copy {
        patience: Patience,
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
        fn patience(&self) -> Patience {
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

    fn chain(patience: Patience) -> Chain {
        chain_through(Copy { patience, half_close: false })
    }

    fn chain_through(mut copy: Copy) -> Chain {
        let (client, near) = UnixStream::pair().unwrap();
        let (program, far) = UnixStream::pair().unwrap();
        let (alarm, watch) = UnixStream::pair().unwrap();
        let relay = thread::spawn(move || {
            let (mut client, mut server) = (End::socket(near.as_fd()), End::socket(far.as_fd()));
            let mut out = Outbox::default();
            let ending =
                relay(&mut client, &mut server, Some(watch.as_fd()), &mut copy, &mut out).unwrap();
            client.finish();
            ending
        });
        Chain { client, program, alarm, relay }
    }

    const LONG: Patience = Patience::Either(Duration::from_secs(60));

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
        drop(chain.client);
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
        drop(chain.client);
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
        drop(chain.client);
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
        let quiet = chain(Patience::Either(Duration::from_millis(1)));
        assert_eq!(rest(&quiet.client), b"too late");
        let alarmed = chain(LONG);
        drop(alarmed.alarm);
        assert_eq!(rest(&alarmed.client), b"alarm");
    }

    // DESIGN 6.7: relays end a session when the program owes a reply for too long, whatever the client does meanwhile.
    #[test]
    fn a_client_that_goes_on_sending_buys_no_time_where_the_program_is_awaited() {
        let chain = chain(Patience::Server(Duration::from_millis(20)));
        thread::scope(|scope| {
            scope.spawn(|| while (&chain.client).write_all(b"x").is_ok() {});
            scope.spawn(|| rest(&chain.program));
            let mut heard = [0; 8];
            (&chain.client).read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"too late");
            chain.client.shutdown(std::net::Shutdown::Both).unwrap();
            chain.program.shutdown(std::net::Shutdown::Both).unwrap();
        });
    }
}
