//! The process that faces the network: the dialogue in clear, the handshake, the dialogue inside TLS.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use plumb::die::reason;
use plumb::end::End;
use plumb::fds::{close_all_but, no_delay};
use plumb::log::Log;
use plumb::middle::{Middle, Outbox};
use plumb::privs::Identity;
use plumb::relay::{Ending, relay};
use plumb::sandbox::{Profile, confine};
use plumb::wait::{after, wait, wait_beside};
use plumb::{Doing, Result};

use crate::channel::{FromNet, ToNet};
use crate::holder::Holder;
use crate::middle::{Clear, Inside, Noted};
use crate::policy::Policy;
use crate::replies;
use crate::tls::Tls;
use crate::wrap::Wrap;

/// What net holds.
#[derive(Debug)]
pub struct Net {
    /// The way to the monitor.
    pub channel: OwnedFd,
    /// The side of the program in clear; none where TLS is from the first byte.
    pub clear_program: Option<OwnedFd>,
    /// The side of the program inside TLS; none where there is no TLS.
    pub tls_program: Option<OwnedFd>,
    /// What is allowed when.
    pub policy: Policy,
}

/// Locks itself in, serves one connection and returns the exit code.
pub fn serve(net: Net, identity: &Identity, strict: bool, log: &mut Log) -> u8 {
    let lacking = match lock_in(&net, identity, strict) {
        Ok(lacking) => lacking,
        Err(error) => {
            log.line(format_args!("fatal: {error}"));
            crate::turn_away(&error);
            return error.exit_code();
        }
    };
    if !lacking.is_empty() {
        log.line(format_args!("this machine lacks {}", lacking.join(", ")));
    }
    let holder = Arc::new(Holder::new(net.channel));
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let mut connection = Connection {
        client: End::new(stdin.as_fd(), stdout.as_fd()),
        holder,
        policy: net.policy,
        log,
    };
    match connection.serve(net.clear_program, net.tls_program) {
        Ok(()) => 0,
        Err(error) => {
            connection.log.line(format_args!("fatal: unable to poll: {}", reason(&error)));
            plumb::die::TEMPORARY
        }
    }
}

fn lock_in(net: &Net, identity: &Identity, strict: bool) -> Result<Vec<&'static str>> {
    let programs = net.clear_program.iter().chain(&net.tls_program);
    let mut keep = vec![0, 1, 2, net.channel.as_raw_fd()];
    keep.extend(programs.map(AsRawFd::as_raw_fd));
    close_all_but(&keep).doing("close descriptors")?;
    no_delay(io::stdin());
    confine(identity, Profile::relay(), strict)
}

struct Connection<'a> {
    client: End<'a>,
    holder: Arc<Holder>,
    policy: Policy,
    log: &'a mut Log,
}

impl Connection<'_> {
    fn serve(&mut self, clear: Option<OwnedFd>, inside: Option<OwnedFd>) -> io::Result<()> {
        let mut out = Outbox::default();
        let (connected, was_clear) = (after(HANDSHAKE_TIME), clear.is_some());
        let (wrap, kept) = match clear {
            Some(program) if self.clear_phase(&program)? => match self.policy.keep {
                true => (Wrap::with_kept_program(self.policy, &mut out), Some(program)),
                false => (Wrap::after_starttls(self.policy), None),
            },
            None if self.first_bytes(connected)? => (Wrap::in_tls(self.policy), None),
            _ => return Ok(()),
        };
        let deadline = if was_clear { after(HANDSHAKE_TIME) } else { connected };
        let Some(tls) = self.handshake(deadline)? else { return Ok(()) };
        match kept.or(inside) {
            Some(program) => self.tls_phase(&program, tls, wrap, out),
            None => Ok(()),
        }
    }

    /// The dialogue in clear; true if TLS is to begin.
    fn clear_phase(&mut self, program: &OwnedFd) -> io::Result<bool> {
        let mut server = End::socket(program.as_fd());
        let mut out = Outbox::default();
        let mut middle = Clear(Wrap::in_clear(self.policy));
        let mut tries = 0..KEY_TRIES;
        loop {
            let ending = self.relay(&mut server, &mut middle, &mut out)?;
            let wrap = &mut middle.0;
            if !wrap.wants_tls() {
                self.client.finish();
                self.log_ending(&ending);
                return Ok(false);
            }
            if wrap.injected() || self.client.has_unread() {
                self.log.line("bytes behind STARTTLS refused");
                wrap.end(replies::INJECTION, &mut out);
            } else if tries.next().is_some()
                && self.holder.ask(&FromNet::Prepare) == Some(ToNet::Ready)
            {
                return self.grant(&mut out);
            } else {
                self.log.line("STARTTLS refused: no key");
                wrap.go_on_in_clear(&mut out);
            }
        }
    }

    /// Sends the 220 and nothing else.
    fn grant(&mut self, out: &mut Outbox) -> io::Result<bool> {
        out.client.extend_from_slice(replies::READY);
        self.flush(&mut out.client, after(HANDSHAKE_TIME))
    }

    /// Waits for the first byte of a client that begins with TLS, so that no key is touched for nothing.
    fn first_bytes(&mut self, deadline: Instant) -> io::Result<bool> {
        if let Err(reason) = self.client_speaks(deadline)? {
            self.log.line(format_args!("tls failed {reason}"));
            return Ok(false);
        }
        if !self.client.has_unread() {
            return Ok(false);
        }
        let ready = self.holder.ask(&FromNet::Prepare) == Some(ToNet::Ready);
        if !ready {
            self.log.line("tls failed from=server reason=\"no key\"");
        }
        Ok(ready)
    }

    /// The handshake; none if it failed, and then the client has been told.
    fn handshake(&mut self, deadline: Instant) -> io::Result<Option<(Tls, Vec<u8>)>> {
        let mut plain = Vec::new();
        let mut tls = match Tls::new(Arc::clone(&self.holder)) {
            Ok(tls) => tls,
            Err(failure) => {
                self.log.line(format_args!("tls failed {failure}"));
                return Ok(None);
            }
        };
        match self.shake_hands(&mut tls, &mut plain, deadline)? {
            Ok(()) => {}
            Err(reason) => {
                self.log.line(format_args!("tls failed {reason}"));
                return Ok(None);
            }
        }
        let facts = tls.facts();
        self.log.line(format_args!(
            "tls ok {} cert=sha256:{}",
            facts.log_line(),
            self.holder.fingerprint()
        ));
        self.holder.tell(&FromNet::Release);
        self.holder.tell(&FromNet::Secured(facts));
        Ok(Some((tls, plain)))
    }

    fn shake_hands(
        &mut self,
        tls: &mut Tls,
        plain: &mut Vec<u8>,
        deadline: Instant,
    ) -> io::Result<std::result::Result<(), String>> {
        let (mut buffer, mut out) = (vec![0; RECORD], Vec::new());
        loop {
            if let Err(reason) = self.client_speaks(deadline)? {
                return Ok(Err(reason.to_owned()));
            }
            let received = match self.client.receive(&mut buffer) {
                Ok(None) => continue,
                Ok(Some(0)) => return Ok(Err("from=client reason=closed".to_owned())),
                Ok(Some(count)) => buffer.get(..count).unwrap_or_default(),
                Err(error) => return Ok(Err(format!("from=client reason={:?}", error.kind()))),
            };
            let result = tls.receive(received, plain);
            tls.outgoing(&mut out);
            let sent = self.flush(&mut out, deadline)?;
            match result {
                Err(failure) => {
                    self.client.finish();
                    return Ok(Err(failure.to_string()));
                }
                Ok(()) if !sent => return Ok(Err("from=client reason=gone".to_owned())),
                Ok(()) if tls.is_handshaking() => {}
                Ok(()) => return Ok(Ok(())),
            }
        }
    }

    /// Waits until the client has sent something or ended; otherwise tells why nothing is awaited any more.
    fn client_speaks(
        &self,
        deadline: Instant,
    ) -> io::Result<std::result::Result<(), &'static str>> {
        let input = io::stdin();
        let watch = self.holder.watch();
        Ok(match wait_beside(watch, input.as_fd(), PollFlags::POLLIN, deadline)? {
            true => Ok(()),
            false if Instant::now() < deadline => Err("from=server reason=terminated"),
            false => Err("from=client reason=timeout"),
        })
    }

    /// The dialogue inside TLS.
    fn tls_phase(
        &mut self,
        program: &OwnedFd,
        (tls, plain): (Tls, Vec<u8>),
        wrap: Wrap,
        mut out: Outbox,
    ) -> io::Result<()> {
        let mut server = End::socket(program.as_fd());
        let mut middle = Inside::new(tls, wrap);
        // The first command may have come with the client's Finished.
        middle.client_says(&plain, &mut out);
        let ending = self.relay(&mut server, &mut middle, &mut out)?;
        if let Some(failure) = middle.take_failure() {
            self.log.line(format_args!("tls failed {failure}"));
        }
        self.client.finish();
        self.log_ending(&ending);
        Ok(())
    }

    fn relay(
        &mut self,
        server: &mut End<'_>,
        middle: &mut (impl Middle + Noted),
        out: &mut Outbox,
    ) -> io::Result<Ending> {
        let holder = Arc::clone(&self.holder);
        // A late answer is no end of the monitor, and the session goes on.
        let watch: Option<BorrowedFd<'_>> = (!holder.is_out_of_step()).then(|| holder.watch());
        let ending = relay(&mut self.client, server, watch, middle, out);
        for note in middle.notes() {
            self.log.line(note);
        }
        ending
    }

    /// Writes everything; false if the client takes it no more.
    fn flush(&mut self, bytes: &mut Vec<u8>, deadline: Instant) -> io::Result<bool> {
        let output = io::stdout();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            if !wait(output.as_fd(), PollFlags::POLLOUT, deadline)? {
                return Ok(false);
            }
            match self.client.transmit(rest) {
                Ok(count) => rest = rest.get(count.unwrap_or(0)..).unwrap_or_default(),
                Err(_gone) => return Ok(false),
            }
        }
        bytes.clear();
        Ok(true)
    }

    fn log_ending(&mut self, ending: &Ending) {
        if let Ending::ClientLost(error) = ending {
            self.log.line(format_args!("client lost: {}", reason(error)));
        }
    }
}

/// A handshake has 30 s in all (DESIGN 6.7).
const HANDSHAKE_TIME: Duration = Duration::from_secs(30);
/// Each try for a key costs a process; a client that still asks is no mail server.
const KEY_TRIES: u8 = 3;
/// A TLS record and its header.
const RECORD: usize = 17 * 1024;
