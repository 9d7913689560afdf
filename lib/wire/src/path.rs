//! Paths and parameters: `FROM:<a@b> SIZE=9` (RFC 5321 4.1.2).
//!
//! An address comes out as qmail-queue's envelope holds it: source route, quotes and backslashes
//! taken off. Its domain is then what follows its last `@`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It breaks the syntax or a length limit.
    Syntax,
    /// It holds bytes above 127, which only SMTPUTF8 would allow (RFC 6531 3.5).
    NotAscii,
}

/// One parameter behind a path; `value` is none where there is no `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// The keyword, in the case of letters that the client used.
    pub keyword: &'a [u8],
    /// What follows the first `=`, never empty.
    pub value: Option<&'a [u8]>,
}

/// The address that follows `keyword` and a colon, and the text of the parameters behind it.
///
/// Blanks behind the colon and an address without angle brackets pass, as in qmail; `<>` gives an
/// empty address, `<postmaster>` and other names without a domain pass as they are.
pub fn path<'a>(args: &'a [u8], keyword: &[u8]) -> Result<(Vec<u8>, &'a [u8]), BadPath> {
    let parsed = after_keyword(args, keyword).and_then(|rest| {
        let mut input = Input { rest, address: Vec::new() };
        input.path()?;
        let ends = matches!(input.rest.first(), None | Some(b' ' | b'\t'));
        (ends && input.address.len() <= ADDRESS_LIMIT).then_some((input.address, input.rest))
    });
    parsed.ok_or(if args.is_ascii() { BadPath::Syntax } else { BadPath::NotAscii })
}

/// The parameters in what `path` left; `None` for one that is malformed (RFC 5321 4.1.2 esmtp-param).
pub fn parameters(text: &[u8]) -> impl Iterator<Item = Option<Parameter<'_>>> {
    text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).map(parameter)
}

/// What follows the last `@` of an address.
pub fn domain(address: &[u8]) -> Option<&[u8]> {
    let at = address.iter().rposition(|&byte| byte == b'@')?;
    address.get(at.checked_add(1)?..)
}

/// The address in a domain like `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).
pub fn literal(domain: &[u8]) -> Option<std::net::IpAddr> {
    let inner = domain.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let inner = str::from_utf8(inner).ok()?;
    match inner.split_at_checked(5) {
        Some((tag, v6)) if tag.eq_ignore_ascii_case("IPv6:") => {
            v6.parse::<Ipv6Addr>().ok().map(Into::into)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

fn after_keyword<'a>(args: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = args.split_at_checked(keyword.len())?;
    let rest = rest.strip_prefix(b":")?;
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    word.eq_ignore_ascii_case(keyword).then(|| rest.get(blanks..)).flatten()
}

fn parameter(word: &[u8]) -> Option<Parameter<'_>> {
    let mut parts = word.splitn(2, |&byte| byte == b'=');
    let (keyword, value) = (parts.next()?, parts.next());
    let named = keyword.first()?.is_ascii_alphanumeric()
        && keyword.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let valued = value.is_none_or(|value| {
        !value.is_empty() && value.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'=')
    });
    (named && valued).then_some(Parameter { keyword, value })
}

/// What is left of a path, and the address found so far.
struct Input<'a> {
    rest: &'a [u8],
    address: Vec<u8>,
}

impl Input<'_> {
    fn path(&mut self) -> Option<()> {
        if !self.skip(b'<') {
            return self.mailbox();
        }
        if self.skip(b'>') {
            return Some(());
        }
        self.route()?;
        self.mailbox()?;
        self.skip(b'>').then_some(())
    }

    /// `@a,@b:` is read and forgotten (RFC 5321 4.1.1.3).
    fn route(&mut self) -> Option<()> {
        if self.rest.first() != Some(&b'@') {
            return Some(());
        }
        self.take(|byte| is_domain(byte) || matches!(byte, b'@' | b','));
        self.skip(b':').then_some(())
    }

    fn mailbox(&mut self) -> Option<()> {
        if self.skip(b'"') {
            self.quoted()?;
        } else {
            let local = self.take(|byte| is_atom(byte) || byte == b'.');
            self.address.extend_from_slice(some(local)?);
        }
        if self.skip(b'@') {
            self.address.push(b'@');
            self.domain()?;
        }
        Some(())
    }

    fn quoted(&mut self) -> Option<()> {
        loop {
            let (mut byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            if *byte == b'"' {
                return (!self.address.is_empty()).then_some(());
            }
            if *byte == b'\\' {
                (byte, self.rest) = rest.split_first()?;
            }
            // RFC 5321 4.1.2: no control octets, not even quoted.
            if !matches!(byte, b' '..=b'~') {
                return None;
            }
            self.address.push(*byte);
        }
    }

    fn domain(&mut self) -> Option<()> {
        let domain = if self.rest.first() == Some(&b'[') {
            let end = self.rest.iter().position(|&byte| byte == b']')?.checked_add(1)?;
            let (found, rest) = self.rest.split_at_checked(end)?;
            literal(found)?;
            self.rest = rest;
            found
        } else {
            some(self.take(is_domain))?
        };
        self.address.extend_from_slice(domain);
        (domain.len() <= DOMAIN_LIMIT).then_some(())
    }

    fn skip(&mut self, wanted: u8) -> bool {
        match self.rest.split_first() {
            Some((byte, rest)) if *byte == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }
}

impl<'a> Input<'a> {
    fn take(&mut self, accepts: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !accepts(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }
}

fn some(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// RFC 5322 3.2.3 atext.
fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Letters, digits, hyphen and dot, and the underscore that some host names have.
fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}

/// RFC 5321 4.5.3.1.2.
const DOMAIN_LIMIT: usize = 255;

/// More than RFC 5321 4.5.3.1.3 asks for; below the 1,003 bytes that qmail-queue takes, so that
/// something can still be appended.
const ADDRESS_LIMIT: usize = 900;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(args: &str) -> Option<String> {
        let (address, rest) = path(args.as_bytes(), b"TO").ok()?;
        assert_eq!(rest, b"");
        Some(String::from_utf8(address).unwrap())
    }

    #[test]
    fn addresses_as_the_envelope_holds_them() {
        for (args, expected) in [
            ("TO:<a@example.org>", "a@example.org"),
            ("to:<A.b+c@Example.ORG>", "A.b+c@Example.ORG"),
            ("TO:<>", ""),
            ("TO: <a@b>", "a@b"),
            ("TO:a@b", "a@b"),
            // RFC 5321 4.5.1: "postmaster" without a domain, in any case of letters.
            ("TO:<postmaster>", "postmaster"),
            ("TO:<PostMaster>", "PostMaster"),
            // RFC 5321 4.1.1.3: source routes are accepted and ignored.
            ("TO:<@r1,@r2.example:a@b>", "a@b"),
            ("TO:<@r1:\"x@y\"@b>", "x@y@b"),
            // RFC 5321 4.1.2: quoted strings mean what they mean without quotes.
            ("TO:<\"a b\"@x>", "a b@x"),
            ("TO:<\"a\\\"\\\\>b\"@x>", "a\"\\>b@x"),
            ("TO:<\"postmaster\">", "postmaster"),
            // RFC 5321 4.1.3: address literals.
            ("TO:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            ("TO:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
            ("TO:<a%b@c>", "a%b@c"),
            ("TO:<a..b@c>", "a..b@c"),
            ("TO:<a@b_c.d->", "a@b_c.d-"),
        ] {
            assert_eq!(address(args).as_deref(), Some(expected), "{args}");
        }
    }

    #[test]
    fn what_is_no_path() {
        for args in [
            "",
            "TO",
            "TO:",
            "TO :<a@b>",
            "FROM:<a@b>",
            "TO<a@b>",
            "TO:<a@b",
            "TO:a@b>",
            "TO:<a@b>x",
            "TO:<a b@c>",
            "TO:<a@b@c>",
            "TO:<@b>",
            "TO:<@b:>",
            "TO:<a@>",
            "TO:<\"\"@b>",
            "TO:<\"a@b>",
            "TO:<\"a\\",
            "TO:<a\\@b@c>",
            "TO:<(x)a@b>",
            "TO:<a@[1.2.3]>",
            "TO:<a@[1.2.3.4>",
            "TO:<a@[IPv6:1.2.3.4]>",
            "TO:<a@[x:y]>",
            "TO:< a@b>",
            "TO:<a@b >",
            "TO:<<a@b>>",
            "TO:<a@b><c@d>",
            "TO:<\"a\"b@c>",
        ] {
            assert_eq!(path(args.as_bytes(), b"TO"), Err(BadPath::Syntax), "{args}");
        }
    }

    // RFC 5321 4.1.2: control octets must not be accepted in MAIL and RCPT.
    #[test]
    fn control_octets_are_refused() {
        for byte in (0..32).chain([127]) {
            for args in
                [&b"TO:<a?@b>"[..], b"TO:<\"a?\"@b>", b"TO:<\"a\\?\"@b>", b"TO:<a@b?>", b"TO:<?>"]
            {
                let args: Vec<u8> =
                    args.iter().map(|&b| if b == b'?' { byte } else { b }).collect();
                assert_eq!(path(&args, b"TO"), Err(BadPath::Syntax), "{}", args.escape_ascii());
            }
        }
    }

    // RFC 6531 3.5: without SMTPUTF8 no such address.
    #[test]
    fn addresses_beyond_ascii_are_told_apart() {
        for args in ["TO:<ü@b>", "TO:<\"ü\"@b>", "TO:<a@bücher.example>"] {
            assert_eq!(path(args.as_bytes(), b"TO"), Err(BadPath::NotAscii), "{args}");
        }
    }

    // RFC 5321 4.5.3.1: local parts of 64, domains of 255 and paths of 256 octets must pass.
    #[test]
    fn lengths() {
        let sized = |local, domain| format!("TO:<{}@{}>", "l".repeat(local), "d".repeat(domain));
        assert!(address(&sized(64, 255)).is_some());
        assert!(address(&sized(644, 255)).is_some());
        assert!(address(&sized(645, 255)).is_none());
        assert!(address(&sized(1, 256)).is_none());
    }

    #[test]
    fn parameters_behind_a_path() {
        let (_, text) = path(b"FROM:<> SIZE=9  BODY=8BITMIME\tX-y", b"FROM").unwrap();
        let found: Vec<_> = parameters(text).map(|p| p.map(|p| (p.keyword, p.value))).collect();
        assert_eq!(
            found,
            [
                Some((&b"SIZE"[..], Some(&b"9"[..]))),
                Some((b"BODY", Some(b"8BITMIME"))),
                Some((b"X-y", None)),
            ]
        );
        for bad in [&b"=1"[..], b"A=", b"A=b=c", b"-A=1", b"A_B=1", b"A=\x01", b"A=\xff", b"A\0"] {
            assert_eq!(parameters(bad).collect::<Vec<_>>(), [None], "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn domains_and_literals() {
        assert_eq!(domain(b"a@b@c"), Some(&b"c"[..]));
        assert_eq!(domain(b"a@"), Some(&b""[..]));
        assert_eq!(domain(b"a"), None);
        assert_eq!(literal(b"[::1]"), None);
        assert_eq!(literal(b"[ipv6:::1]"), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(literal(b"127.0.0.1"), None);
    }
}
