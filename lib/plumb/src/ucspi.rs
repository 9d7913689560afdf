//! Session facts from the UCSPI server, systemd or the socket itself, and what must be set for the programs that follow.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who speaks with whom; what is unknown is None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ucspi {
    /// The client's address, ::ffff: and zone stripped.
    pub remote_ip: Option<IpAddr>,
    /// The client's port.
    pub remote_port: Option<u16>,
    /// The client's name, as the server found it.
    pub remote_host: Option<OsString>,
    /// The client's user, by IDENT or AUTH.
    pub remote_info: Option<OsString>,
    /// Our address, ::ffff: and zone stripped.
    pub local_ip: Option<IpAddr>,
    /// Our port.
    pub local_port: Option<u16>,
    /// Our name, as the server knows it.
    pub local_host: Option<OsString>,
    /// Variables that were absent and are to be set for the program that follows.
    pub set: Vec<(&'static str, OsString)>,
}

impl Ucspi {
    /// The facts of this process' environment and of descriptor 0.
    pub fn of_process() -> Self {
        let (peer, local) = addresses(std::io::stdin());
        Self::from_env(|name| std::env::var_os(name), peer, local)
    }

    /// The facts as the UCSPI server gave them; where it gave no address, systemd's, else the socket's.
    pub fn from_env(
        env: impl Fn(&str) -> Option<OsString>,
        peer: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Self {
        let either = |names: [&'static str; 2]| names.into_iter().find_map(&env);
        let mut facts = Self {
            remote_host: either(["TCPREMOTEHOST", "TCP6REMOTEHOST"]),
            remote_info: either(["TCPREMOTEINFO", "TCP6REMOTEINFO"]),
            local_host: either(["TCPLOCALHOST", "TCP6LOCALHOST"]),
            ..Self::default()
        };
        let systemd =
            Side::given(env("REMOTE_ADDR"), env("REMOTE_PORT")).filter(|side| side.ip.is_some());
        let remote = Side::of_server(&env, REMOTE).or(systemd).or(peer.map(Side::of_socket));
        let local = Side::of_server(&env, LOCAL).or(local.map(Side::of_socket));
        for (side, names) in [(&remote, REMOTE), (&local, LOCAL)] {
            facts.set.extend(side.iter().flat_map(|side| side.missing(&env, names)));
        }
        if remote.or(local).is_some() && env("PROTO").is_none() {
            facts.set.push(("PROTO", "TCP".into()));
        }
        (facts.remote_ip, facts.remote_port) =
            remote.map_or((None, None), |side| (side.ip, side.port));
        (facts.local_ip, facts.local_port) =
            local.map_or((None, None), |side| (side.ip, side.port));
        facts
    }
}

/// getpeername(2) and getsockname(2); None for what is not a TCP socket.
pub fn addresses(fd: impl AsFd) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let Ok(copy) = fd.as_fd().try_clone_to_owned() else { return (None, None) };
    let socket = TcpStream::from(copy);
    (socket.peer_addr().ok(), socket.local_addr().ok())
}

/// The connection's id: `given` where it is 1 to 64 of [A-Za-z0-9.-], else `<hex microseconds>.<pid>`.
pub fn connid(given: Option<&OsStr>, now: SystemTime, pid: u32) -> String {
    given.and_then(OsStr::to_str).filter(|id| is_connid(id)).map_or_else(
        || {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{:x}.{pid}", since.as_micros())
        },
        str::to_owned,
    )
}

/// Whether a switch is on: an integer above 0; 0, empty, unset and junk are off.
pub fn switch(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| {
        let digits = value.as_encoded_bytes();
        digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|&digit| digit != b'0')
    })
}

/// One end of the connection.
#[derive(Clone, Copy, Debug)]
struct Side {
    ip: Option<IpAddr>,
    port: Option<u16>,
}

/// The names of one end's address and port, and what s/qmail's and Debian's servers call them for IPv6.
#[derive(Clone, Copy)]
struct Names {
    ip: &'static str,
    port: &'static str,
    ip6: &'static str,
    port6: &'static str,
}

impl Side {
    /// What the server said, if it said anything: then nothing else is asked, it may know better (PROXY protocol).
    fn of_server(env: impl Fn(&str) -> Option<OsString>, names: Names) -> Option<Self> {
        Self::given(
            env(names.ip).or_else(|| env(names.ip6)),
            env(names.port).or_else(|| env(names.port6)),
        )
    }

    fn of_socket(address: SocketAddr) -> Self {
        Self { ip: Some(address.ip().to_canonical()), port: Some(address.port()) }
    }

    fn given(ip: Option<OsString>, port: Option<OsString>) -> Option<Self> {
        let ip = parse_ip(ip?.to_str().unwrap_or_default());
        Some(Self { ip, port: port.and_then(|port| port.to_str()?.parse().ok()) })
    }

    /// The variables that the server did not set.
    fn missing(
        self,
        env: impl Fn(&str) -> Option<OsString>,
        names: Names,
    ) -> impl Iterator<Item = (&'static str, OsString)> {
        let ip = self.ip.map(|ip| (names.ip, ip.to_string().into()));
        let port = self.port.map(|port| (names.port, port.to_string().into()));
        ip.into_iter()
            .chain(port)
            .filter(move |(name, _)| env(name).is_none())
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// An address as servers write it: IPv4 in IPv6 is IPv4, a zone (fe80::1%eth0) is dropped.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

fn is_connid(id: &str) -> bool {
    (1..=CONNID_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

const REMOTE: Names = Names {
    ip: "TCPREMOTEIP",
    port: "TCPREMOTEPORT",
    ip6: "TCP6REMOTEIP",
    port6: "TCP6REMOTEPORT",
};
const LOCAL: Names =
    Names { ip: "TCPLOCALIP", port: "TCPLOCALPORT", ip6: "TCP6LOCALIP", port6: "TCP6LOCALPORT" };

/// Longest CONNID in bytes, so that it fits in every log line.
pub(crate) const CONNID_MAX: usize = 64;
