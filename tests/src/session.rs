//! The processes of one session behind starttls-wrap, by the parts they play, and what each of them holds.

use std::fs;

use crate::process::{self, Process};
use crate::{Server, until};

/// One session, as it is at this moment.
#[derive(Clone, Debug)]
pub struct Session {
    /// Started by tcpserver; starts the others.
    pub monitor: Process,
    /// Has the client's socket.
    pub net: Process,
    /// There during a handshake only.
    pub key: Option<Process>,
    /// The program before TLS, inside TLS, or for a moment both.
    pub programs: Vec<Process>,
}

impl Session {
    /// Waits until the server has a session whose net runs; there must not be two.
    pub fn of(server: &Server) -> Session {
        until("a session with a net", || Session::now(server))
    }

    fn now(server: &Server) -> Option<Session> {
        let all = server.sessions();
        let chain = server.process().pid;
        let monitor = all.iter().find(|p| p.parent == chain && p.name == WRAP)?.clone();
        let (ours, programs): (Vec<_>, Vec<_>) =
            monitor.children().into_iter().partition(|child| child.name == WRAP);
        let (net, key): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|child| holds(child).starts_with("0 client"));
        let net = net.into_iter().next()?;
        Some(Session { monitor, net, key: key.into_iter().next(), programs })
    }

    /// The key process, which must be there.
    pub fn key(&self) -> &Process {
        self.key.as_ref().expect("a key process")
    }

    /// The program, which must be the only one.
    pub fn program(&self) -> &Process {
        assert_eq!(self.programs.len(), 1, "{:?}", self.programs);
        &self.programs[0]
    }
}

/// What a process holds: 0, 1 and 2 by number, then the rest in alphabetical order.
///
/// `client` is a TCP socket, `program` an AF_UNIX stream, `channel` an AF_UNIX socket that keeps packets, `log` any file of that name.
pub fn holds(process: &Process) -> String {
    let named = process.descriptors().into_iter().map(|(number, target)| (number, kind(&target)));
    let (standard, mut rest): (Vec<_>, Vec<_>) = named.partition(|(number, _)| *number < 3);
    rest.sort_by(|(_, one), (_, other)| one.cmp(other));
    let standard = standard.into_iter().map(|(number, what)| format!("{number} {what}"));
    standard.chain(rest.into_iter().map(|(_, what)| what)).collect::<Vec<_>>().join(", ")
}

/// The number of a descriptor of this kind, which must be there.
pub fn number(process: &Process, what: &str) -> u32 {
    let number =
        process.descriptors().into_iter().find(|(_, target)| kind(target) == what).map(|(n, _)| n);
    number.unwrap_or_else(|| panic!("no {what}: {}", holds(process)))
}

fn kind(target: &str) -> String {
    let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'))
    else {
        return if target.ends_with("/log") { "log".to_owned() } else { target.to_owned() };
    };
    // proc(5): slot, references, protocol, flags, type (1: stream, 5: packets), state, inode.
    let unix = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let of_unix = unix.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words.get(6) == Some(&inode)).then(|| words[4].to_owned())
    });
    match of_unix.as_deref() {
        None => "client".to_owned(),
        Some("0001") => "program".to_owned(),
        Some("0005") => "channel".to_owned(),
        Some(other) => format!("socket of type {other}"),
    }
}

/// Whether a socket of one process is the very same as one of another: `number` of the first.
pub fn shares(one: &Process, number: u32, other: &Process) -> bool {
    let socket = one.descriptors().remove(&number);
    socket.is_some() && other.descriptors().values().any(|held| Some(held) == socket.as_ref())
}

/// Whether a process of this number has gone, or is only not yet waited for.
pub fn gone(pid: i32) -> bool {
    process::of(pid).is_none_or(|process| process.state == 'Z')
}

const WRAP: &str = "starttls-wrap";
