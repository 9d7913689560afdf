//! Networks, and which hosts count as one sender.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The block that a sender may move in between two attempts: /24, or /64 for IPv6 (RFC 6647 5 (5)).
    pub fn around(address: IpAddr) -> Network {
        let bits = if address.is_ipv4() { 24 } else { 64 };
        Network { address: masked(address, bits), bits }
    }

    /// Reads an address, or an address and a count of bits: `192.0.2.0/24`; none for anything else,
    /// also where bits beyond the count are set.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let address: IpAddr = address.parse().ok()?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()?
            }
            Some(_) => return None,
        };
        (bits <= all && masked(address, bits) == address).then_some(Network { address, bits })
    }

    /// Whether an address lies in it; one of the other family never does.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// The name under which a sending host is remembered: its verified domain, if it has one, else its network.
///
/// The domain is the host's name without its first label, so that the machines of a pool count as
/// one sender wherever they stand. A name that spells out the address belongs to a customer's line
/// and says nothing about whose mail it is; a name that would leave no more than a registry's suffix
/// stays whole.
pub fn host_key(address: IpAddr, verified_name: Option<&str>) -> String {
    let network = || Network::around(address).to_string();
    let Some(name) = verified_name else { return network() };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if !is_name(&name) || spells_out(&name, address) {
        return network();
    }
    match name.split_once('.') {
        Some((_, domain)) if is_below_registry(domain) => domain.to_owned(),
        _ => name,
    }
}

/// Whether a text is a host name of at least two labels (RFC 1123 2.1), and no address.
pub fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let last_is_number = |name: &str| {
        name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.len() <= NAME_LIMIT
        && name.contains('.')
        && name.split('.').all(label)
        && !last_is_number(name)
}

/// Whether a domain has a label of its owner's: `example.org` and `foo.co.uk` have, `co.uk` has not.
fn is_below_registry(domain: &str) -> bool {
    let mut labels = domain.rsplit('.');
    let (Some(top), Some(second)) = (labels.next(), labels.next()) else { return false };
    let registry = top.len() == 2 && second.len() <= REGISTRY_LABEL;
    !registry || labels.next().is_some()
}

/// Whether most of the address stands in the name, as in `host-192-0-2-77.pool.example.net`.
fn spells_out(name: &str, address: IpAddr) -> bool {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match address {
        IpAddr::V4(address) => {
            let numbers: Vec<u8> = name
                .split(|letter: char| !letter.is_ascii_digit())
                .filter_map(|digits| digits.parse().ok())
                .collect();
            let found = address.octets().iter().filter(|octet| numbers.contains(octet)).count();
            found >= OCTETS_THAT_TELL || name.contains(&hex(&address.octets()))
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let interface = octets.get(12..).unwrap_or_default();
            name.replace(['-', '.'], "").contains(&hex(interface))
        }
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

/// RFC 1035 2.3.4.
const NAME_LIMIT: usize = 253;

/// Registries' own second labels are this short (co.uk, com.au, ac.jp); longer ones are their customers'.
const REGISTRY_LABEL: usize = 3;

/// Two of the four octets also stand in names of pools (a8-55.smtp-out.example.com).
const OCTETS_THAT_TELL: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    // RFC 6647 5 (5): "/24 for IPv4"; section 7 leaves IPv6 open: a /64 is one network there.
    #[test]
    fn networks_around_a_host() {
        assert_eq!(host_key(ip("192.0.2.77"), None), "192.0.2.0/24");
        assert_eq!(host_key(ip("2001:db8:1:2:3:4:5:6"), None), "2001:db8:1:2::/64");
    }

    #[test]
    fn networks_as_written() {
        for (text, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("128.0.0.0/1", "200.0.0.1", "127.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "0.0.0.0"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ] {
            let network = Network::parse(text).unwrap();
            assert!(network.contains(ip(inside)), "{text}");
            assert!(!network.contains(ip(outside)), "{text}");
        }
        for text in ["", "192.0.2.0/33", "192.0.2.1/24", "::/129", "192.0.2/24", "1.2.3.4/+8", "x"]
        {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_machines_of_a_pool_are_one_sender() {
        for (name, key) in [
            ("mail-a-f41.google.example", "google.example"),
            ("MAIL.outbound.Protection.example.com.", "outbound.protection.example.com"),
            // The numbers of a pool's machine may be a part of its address.
            ("a2-77.smtp-out.example.com", "smtp-out.example.com"),
            ("mx.foo.co.uk", "foo.co.uk"),
            ("foo.co.uk", "foo.co.uk"),
            ("example.org", "example.org"),
        ] {
            assert_eq!(host_key(ip("192.0.2.77"), Some(name)), key);
        }
    }

    #[test]
    fn customers_lines_and_broken_names_count_as_networks() {
        for name in [
            "host-192-0-2-77.pool.example.net",
            "77.2.0.192.dyn.example.net",
            "h192-002-077.example.net",
            "pc000024d.example.net.",
            "c000024d.example.net",
            "localhost",
            "192.0.2.77",
            "a b.example.org",
            "x..example.org",
            "",
        ] {
            assert_eq!(host_key(ip("192.0.2.77"), Some(name)), "192.0.2.0/24", "{name}");
        }
        let name = Some("2001-db8--a1b2-c3d4.dyn.example.net");
        assert_eq!(host_key(ip("2001:db8::a1b2:c3d4"), name), "2001:db8::/64");
    }
}
