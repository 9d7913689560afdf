//! The process that opens files and starts the others; nothing from the network is parsed here.

mod lend;

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use plumb::die::TEMPORARY;
use plumb::fds::{null_stdio, packetpair, recv_packet, send_packet, socketpair};
use plumb::log::Log;
use plumb::privs::Identity;
use plumb::process::{
    Ended, Fork, Pid, Program, exit_now, fork, shutdown_on_sigterm, try_wait, wait,
};
use plumb::{Doing, Result};

use crate::certs::Paths;
use crate::channel::{Facts, FromNet, MESSAGE_LIMIT, ToNet};
use crate::environment::changes;
use crate::net::{self, Net};
use crate::policy::{Policy, Tls};

/// What the command line and the environment say.
#[derive(Debug)]
pub struct Settings {
    /// The rest of the chain.
    pub program: Vec<OsString>,
    /// What is allowed when.
    pub policy: Policy,
    /// Where certificates and keys lie.
    pub paths: Paths,
    /// Who net becomes, and in the end the monitor.
    pub net_identity: Identity,
    /// Who the key process becomes.
    pub key_identity: Identity,
    /// Whether a machine without Landlock or seccomp is refused.
    pub strict: bool,
    /// Variables that the UCSPI server did not set.
    pub session: Vec<(&'static str, OsString)>,
}

/// Serves one connection and returns the exit code.
///
/// # Errors
/// What the system did not give before the session began.
pub fn run(settings: Settings, log: &mut Log) -> Result<u8> {
    let (channel, far_channel) = packetpair().doing("make a channel")?;
    let has_tls = settings.policy.tls != Tls::Denied;
    let starts_anew = has_tls && !settings.policy.keep;
    let has_clear = settings.policy.tls != Tls::Immediate;
    let (clear, far_clear) = pair_if(has_clear)?;
    let (inside, far_inside) = pair_if(starts_anew)?;
    let net = match fork().doing("fork")? {
        Fork::Child => {
            drop((channel, clear, inside));
            let net = Net {
                channel: far_channel,
                clear_program: far_clear,
                tls_program: far_inside,
                policy: settings.policy,
            };
            exit_now(net::serve(net, &settings.net_identity, settings.strict, log));
        }
        Fork::Parent(pid) => pid,
    };
    drop((far_channel, far_clear, far_inside));
    null_stdio(&[0, 1]).doing("open /dev/null")?;
    shutdown_on_sigterm(&channel).doing("catch SIGTERM")?;
    let mut monitor =
        Monitor { settings, log, channel, last: Last::NotStarted, first: None, key_lent: false };
    if let Some(socket) = clear {
        monitor.start(socket, None);
    }
    if has_tls {
        monitor.attend(inside);
    }
    monitor.reap(net)
}

fn pair_if(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match wanted {
        false => Ok((None, None)),
        true => socketpair().doing("make a socket pair").map(|(near, far)| (Some(near), Some(far))),
    }
}

struct Monitor<'a> {
    settings: Settings,
    log: &'a mut Log,
    channel: OwnedFd,
    last: Last,
    /// The program from before TLS, once it is forgotten.
    first: Option<Pid>,
    /// A key process had a usable key: the one handshake of this session has begun.
    key_lent: bool,
}

/// The program whose exit code counts.
#[derive(Clone, Copy)]
enum Last {
    /// It waits for a handshake, which may never succeed.
    NotStarted,
    /// It could not be run.
    Failed,
    /// It runs.
    Running(Pid),
}

impl Monitor<'_> {
    /// Does what net asks for, until the program has been started for the last time or net ends.
    fn attend(&mut self, mut inside: Option<OwnedFd>) {
        while let Some(message) = self.receive() {
            match message {
                FromNet::Prepare => self.lend_key(),
                FromNet::Secured(facts) => {
                    if let Some(socket) = inside.take() {
                        self.start(socket, Some(&facts));
                    }
                    return;
                }
                // What a key process that died has left unread.
                FromNet::Certify { .. } | FromNet::Sign { .. } => self.answer(&ToNet::Refused),
                FromNet::Release => {}
            }
        }
    }

    fn receive(&mut self) -> Option<FromNet> {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        let (length, _none) = recv_packet(&self.channel, &mut buffer, None).ok()??;
        let message = FromNet::decode(buffer.get(..length)?);
        if message.is_none() {
            self.log.line("net sent a malformed message");
        }
        message
    }

    /// A net that is gone is noticed when nothing more comes from it.
    fn answer(&self, message: &ToNet) {
        let _ = send_packet(&self.channel, &message.encode(), &[]);
    }

    /// Net has closed the side of the program from before TLS, unless that is kept.
    fn forget_program(&mut self) {
        if let Last::Running(pid) = self.last
            && !self.settings.policy.keep
        {
            self.first = Some(pid);
            self.last = Last::NotStarted;
        }
    }

    /// Starts the rest of the chain on this socket; where that fails, net sees its end.
    fn start(&mut self, socket: OwnedFd, facts: Option<&Facts>) {
        match self.program(socket, facts).and_then(Program::spawn) {
            Ok(pid) => self.last = Last::Running(pid),
            Err(error) => {
                self.log.line(format_args!("fatal: {error}"));
                self.last = Last::Failed;
            }
        }
    }

    fn program(&self, socket: OwnedFd, facts: Option<&Facts>) -> Result<Program> {
        let mut program =
            Program::new(&self.settings.program)?.stdio(socket).doing("copy a socket")?;
        for (name, value) in &self.settings.session {
            program = program.env(name, value);
        }
        let names = std::env::vars_os().map(|(name, _)| name);
        for (name, value) in changes(names, &self.settings.policy, facts) {
            program = match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        Ok(program)
    }

    /// Gives up root and waits until net and the last program have ended.
    fn reap(mut self, net: Pid) -> Result<u8> {
        self.settings.net_identity.assume()?;
        self.log_first_program();
        let net = wait(net).doing("wait for net")?;
        if let Ended::Signal(signal) = net {
            self.log.line(format_args!("net killed signal={signal}"));
        }
        self.log_first_program();
        let program = match self.last {
            Last::NotStarted => Ended::Code(0),
            Last::Failed => Ended::Code(TEMPORARY),
            Last::Running(pid) => wait(pid).doing("wait for the program")?,
        };
        if let Ended::Signal(signal) = program {
            self.log.line(format_args!("program killed signal={signal}"));
        }
        Ok(match net {
            // It failed itself, and has logged why.
            Ended::Code(code @ 1..) => code,
            _ => program.exit_code(),
        })
    }

    /// The program from before TLS was told to go, and nobody waits for it.
    fn log_first_program(&mut self) {
        let Some(Ok(Some(ended))) = self.first.map(try_wait) else { return };
        self.first = None;
        if ended != Ended::Code(0) {
            self.log.line(format_args!("program before tls ended {ended}"));
        }
    }
}
