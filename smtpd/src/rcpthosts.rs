//! For which domains, and from which senders, mail is taken.

use std::io::Result;

use cdb::Cdb;

/// control/rcpthosts and control/morercpthosts.cdb.
#[derive(Debug, Default)]
pub struct Rcpthosts {
    /// In lower case; empty where the file is missing, so that nobody may send here.
    pub hosts: Vec<Vec<u8>>,
    /// Domains in lower case, with empty values.
    pub more: Option<Cdb>,
}

impl Rcpthosts {
    /// Whether the domain of `address` or, from a dot on, a part of it is listed; an address
    /// without a domain is local if it is the postmaster's (RFC 5321 4.5.1).
    pub fn allow(&self, address: &[u8]) -> Result<bool> {
        let Some(domain) = wire::domain(address) else {
            return Ok(address.eq_ignore_ascii_case(b"postmaster"));
        };
        let domain = domain.to_ascii_lowercase();
        for (at, &byte) in domain.iter().enumerate() {
            if at == 0 || byte == b'.' {
                let part = domain.get(at..).unwrap_or_default();
                if self.hosts.iter().any(|host| host == part) || self.in_more(part)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn in_more(&self, part: &[u8]) -> Result<bool> {
        match &self.more {
            Some(cdb) => Ok(cdb.get(part, VALUE_LIMIT)?.is_some()),
            None => Ok(false),
        }
    }
}

/// Whether `sender` or `@domain` of it is an entry of control/badmailfrom, in any case of letters.
pub fn is_bad_sender(entries: &[Vec<u8>], sender: &[u8]) -> bool {
    let at = sender.iter().rposition(|&byte| byte == b'@').unwrap_or(sender.len());
    let domain = sender.get(at..).filter(|domain| !domain.is_empty());
    entries.iter().any(|entry| {
        entry.eq_ignore_ascii_case(sender)
            || domain.is_some_and(|domain| entry.eq_ignore_ascii_case(domain))
    })
}

/// Whether validrcptto.cdb (jms1's format) has a mailbox for `address`: itself, each shorter
/// `user-default@domain`, then `@domain`; the first that is there decides, a value beginning with
/// `-` refuses.
pub fn is_valid_recipient(cdb: &Cdb, address: &[u8]) -> Result<bool> {
    let address = address.to_ascii_lowercase();
    for key in valid_keys(&address) {
        if let Some(value) = cdb.get(&key, VALUE_LIMIT)? {
            return Ok(!value.starts_with(b"-"));
        }
    }
    Ok(false)
}

fn valid_keys(address: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = vec![address.to_vec()];
    let Some(at) = address.iter().rposition(|&byte| byte == b'@') else { return keys };
    let (mut user, domain) = address.split_at_checked(at).unwrap_or_default();
    while let Some(dash) = user.iter().rposition(|&byte| byte == b'-') {
        user = user.get(..dash).unwrap_or_default();
        keys.push([user, b"-default", domain].concat());
    }
    keys.push(domain.to_vec());
    keys
}

/// Values are empty or a mark; more than this is damage.
const VALUE_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn database(name: &str, records: &[(&str, &str)]) -> Cdb {
        let path = std::env::temp_dir().join(format!("cdb-{}-{name}", std::process::id()));
        cdb::replace(&path, 0o600, |maker| {
            records.iter().try_for_each(|(k, v)| maker.add(k.as_bytes(), v.as_bytes()))
        })
        .unwrap();
        Cdb::open(&path).unwrap()
    }

    // qmail-smtpd(8): "If a line of rcpthosts starts with a dot, it is a wildcard for subdomains".
    #[test]
    fn domains_and_wildcards() {
        let hosts = Rcpthosts {
            hosts: [&b"example.org"[..], b".wild.org", b"[192.0.2.1]"].map(<[u8]>::to_vec).into(),
            more: Some(database("more", &[("more.org", ""), (".deep.org", "")])),
        };
        for (address, allowed) in [
            ("a@example.org", true),
            ("a@EXAMPLE.Org", true),
            ("a@sub.example.org", false),
            ("a@wild.org", false),
            ("a@b.wild.org", true),
            ("a@c.b.WILD.org", true),
            ("a@awild.org", false),
            ("a@more.org", true),
            ("a@x.more.org", false),
            ("a@x.y.deep.org", true),
            ("a@[192.0.2.1]", true),
            ("a@example.org@other.org", false),
            ("a%other.org@example.org", true),
            // RFC 5321 4.5.1
            ("postmaster", true),
            ("PostMaster", true),
            ("user", false),
            ("a@", false),
        ] {
            assert_eq!(hosts.allow(address.as_bytes()).unwrap(), allowed, "{address}");
        }
    }

    #[test]
    fn without_a_list_nobody_may_send_here() {
        assert!(!Rcpthosts::default().allow(b"a@example.org").unwrap());
    }

    #[test]
    fn a_damaged_database_is_an_error_not_a_refusal() {
        let path = std::env::temp_dir().join(format!("cdb-{}-damaged", std::process::id()));
        std::fs::write(&path, [0xff; 4000]).unwrap();
        let hosts = Rcpthosts { hosts: vec![], more: Some(Cdb::open(&path).unwrap()) };
        assert!(hosts.allow(b"a@example.org").is_err());
    }

    #[test]
    fn bad_senders() {
        let entries = [&b"Spam@example.org"[..], b"@bad.example"].map(<[u8]>::to_vec);
        for (sender, bad) in [
            ("spam@EXAMPLE.org", true),
            ("x@bad.example", true),
            ("x@sub.bad.example", false),
            ("bad.example", false),
            ("ham@example.org", false),
            ("", false),
        ] {
            assert_eq!(is_bad_sender(&entries, sender.as_bytes()), bad, "{sender}");
        }
    }

    #[test]
    fn valid_recipients() {
        let cdb = database(
            "valid",
            &[
                ("user@dom.org", ""),
                ("list-default@dom.org", ""),
                ("list-off-default@dom.org", "-"),
                ("gone@all.org", "-no"),
                ("@all.org", ""),
            ],
        );
        for (address, valid) in [
            ("user@dom.org", true),
            ("User@Dom.ORG", true),
            ("user-x@dom.org", false),
            ("list@dom.org", false),
            ("list-@dom.org", true),
            ("list-a-b@dom.org", true),
            ("list-off-b@dom.org", false),
            ("nobody@dom.org", false),
            ("anyone@all.org", true),
            ("gone@all.org", false),
            ("user", false),
        ] {
            assert_eq!(is_valid_recipient(&cdb, address.as_bytes()).unwrap(), valid, "{address}");
        }
    }
}
