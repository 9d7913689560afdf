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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The environment, peer and local address; then the facts, and what is to be set.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, Option<&'a str>, &'a str, &'a str);

    // DESIGN 3: the first row of the table of variables.
    const CASES: &[Case<'_>] = &[
        // tcpserver: nothing is to be set, the socket is not asked.
        (
            &[
                ("PROTO", "TCP"),
                ("TCPREMOTEIP", "192.0.2.1"),
                ("TCPREMOTEPORT", "7"),
                ("TCPLOCALIP", "192.0.2.2"),
                ("TCPLOCALPORT", "25"),
            ],
            Some("198.51.100.1:1"),
            Some("198.51.100.2:2"),
            "192.0.2.1:7 192.0.2.2:25",
            "",
        ),
        // Debian's ucspi-tcp-ipv6 sets both families and PROTO=TCP6, which is not rewritten.
        (
            &[
                ("PROTO", "TCP6"),
                ("TCP6REMOTEIP", "2001:db8::1"),
                ("TCPREMOTEIP", "2001:db8::1"),
                ("TCP6REMOTEPORT", "7"),
                ("TCPREMOTEPORT", "7"),
            ],
            None,
            None,
            "2001:db8::1:7 -:-",
            "",
        ),
        // A server that sets only TCP6*.
        (
            &[
                ("PROTO", "TCP6"),
                ("TCP6REMOTEIP", "::ffff:192.0.2.1"),
                ("TCP6REMOTEPORT", "7"),
                ("TCP6LOCALIP", "fe80::1%eth0"),
                ("TCP6LOCALPORT", "25"),
            ],
            None,
            None,
            "192.0.2.1:7 fe80::1:25",
            "TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=7 TCPLOCALIP=fe80::1 TCPLOCALPORT=25",
        ),
        // systemd with Accept=yes: our own address only from the socket.
        (
            &[("REMOTE_ADDR", "::ffff:192.0.2.1"), ("REMOTE_PORT", "7")],
            Some("198.51.100.1:1"),
            Some("[::ffff:198.51.100.2]:25"),
            "192.0.2.1:7 198.51.100.2:25",
            "TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=7 TCPLOCALIP=198.51.100.2 TCPLOCALPORT=25 PROTO=TCP",
        ),
        // inetd: only the socket.
        (
            &[],
            Some("[::ffff:192.0.2.1]:7"),
            Some("[2001:db8::2]:25"),
            "192.0.2.1:7 2001:db8::2:25",
            "TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=7 TCPLOCALIP=2001:db8::2 TCPLOCALPORT=25 PROTO=TCP",
        ),
        // REMOTE_ADDR of something else (a path, a CGI host): the socket.
        (
            &[("REMOTE_ADDR", "@"), ("REMOTE_PORT", "7")],
            Some("192.0.2.1:9"),
            None,
            "192.0.2.1:9 -:-",
            "TCPREMOTEIP=192.0.2.1 TCPREMOTEPORT=9 PROTO=TCP",
        ),
        // What the server said is not doubted, nor mixed with the socket's.
        (&[("TCPREMOTEIP", "unknown")], Some("192.0.2.1:9"), None, "-:- -:-", "PROTO=TCP"),
        (
            &[("TCPREMOTEIP", "192.0.2.1"), ("PROTO", "TCP")],
            Some("192.0.2.9:9"),
            None,
            "192.0.2.1:- -:-",
            "",
        ),
        // A terminal: nothing is known, nothing is set.
        (&[], None, None, "-:- -:-", ""),
    ];

    #[test]
    fn facts_come_from_the_server_then_systemd_then_the_socket() {
        for (variables, peer, local, facts, set) in CASES {
            let address = |text: &Option<&str>| text.map(|text| text.parse().unwrap());
            let found = Ucspi::from_env(env(variables), address(peer), address(local));
            let shown = |ip: Option<IpAddr>, port: Option<u16>| {
                let ip = ip.map_or("-".into(), |ip| ip.to_string());
                format!("{ip}:{}", port.map_or("-".into(), |port| port.to_string()))
            };
            let remote = shown(found.remote_ip, found.remote_port);
            let local = shown(found.local_ip, found.local_port);
            assert_eq!(format!("{remote} {local}"), *facts, "{variables:?}");
            let pairs = found.set.iter().map(|(name, value)| format!("{name}={}", value.display()));
            assert_eq!(pairs.collect::<Vec<_>>().join(" "), *set, "{variables:?}");
        }
    }

    #[test]
    fn names_and_the_user_are_taken_from_either_family() {
        let variables = [
            ("TCP6REMOTEHOST", "six"),
            ("TCPREMOTEHOST", "four"),
            ("TCP6LOCALHOST", "us"),
            ("TCPREMOTEINFO", "joe"),
        ];
        let found = Ucspi::from_env(env(&variables), None, None);
        assert_eq!(found.remote_host, Some("four".into()));
        assert_eq!(found.local_host, Some("us".into()));
        assert_eq!(found.remote_info, Some("joe".into()));
    }

    #[test]
    fn addresses_are_those_of_a_tcp_socket_or_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let expected = (client.peer_addr().ok(), client.local_addr().ok());
        assert!(expected.0.is_some());
        assert_eq!(addresses(&client), expected);
        let (a, _b) = crate::fds::socketpair().unwrap();
        assert_eq!(addresses(&a), (None, None));
        assert_eq!(addresses(std::io::pipe().unwrap().0), (None, None));
    }

    // DESIGN 3: CONNID: `<hex microseconds>.<pid>`, [A-Za-z0-9.-]{1,64}.
    #[test]
    fn a_connid_is_kept_where_it_is_well_formed() {
        let now = UNIX_EPOCH + Duration::from_micros(0x5f_1234_5678_9abc);
        let given = |id: &str| connid(Some(OsStr::new(id)), now, 42);
        let new = "5f123456789abc.42";
        assert_eq!(connid(None, now, 42), new);
        for kept in ["a", "A.b-9", &"x".repeat(64), new] {
            assert_eq!(given(kept), kept);
        }
        for refused in ["", &"x".repeat(65), "a b", "a\nb", "a_b", "a=b", "\u{e9}"] {
            assert_eq!(given(refused), new, "{refused:?}");
        }
    }

    // DESIGN 4: "A switch is on when its value is an integer above 0; 0, empty and unset are the same".
    #[test]
    fn a_switch_is_on_above_zero() {
        for on in ["1", "2", "01", "10", "99999999999999999999999"] {
            assert!(switch(Some(OsStr::new(on))), "{on}");
        }
        for off in ["", "0", "00", "-1", "+1", "yes", "1x", " 1", "1.5"] {
            assert!(!switch(Some(OsStr::new(off))), "{off}");
        }
        assert!(!switch(None));
    }

    fn env(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }
}
