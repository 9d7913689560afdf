//! One name for all the addresses that a sender uses for one purpose.
//!
//! What comes out is lower-case printable ASCII, whatever went in.

/// A sender without what changes from mail to mail: BATV and SRS stamps, VERP recipients,
/// extensions, serial numbers.
pub fn sender(address: &[u8]) -> String {
    let address = recipient(address);
    let (local, domain) = match address.rsplit_once('@') {
        None => (address.as_str(), None),
        Some((local, domain)) => (local, Some(domain)),
    };
    let local = without_batv(local);
    let local = match srs(local) {
        Some(original) => original,
        None => without_numbers(&without_verp(without_extension(local))),
    };
    match domain {
        None => local,
        Some(domain) => format!("{local}@{domain}"),
    }
}

/// A recipient: its case of letters is the only thing that does not matter.
pub fn recipient(address: &[u8]) -> String {
    plumb::log::value(&address.to_ascii_lowercase(), ADDRESS_LIMIT)
}

/// `prvs=TAG=user` (BATV), and `btv1==TAG==user` and `msprvs1=TAG=user`, which are made like it.
fn without_batv(local: &str) -> &str {
    for (prefix, mark) in [("prvs=", "="), ("msprvs1=", "="), ("btv1==", "==")] {
        if let Some((_, user)) =
            local.strip_prefix(prefix).and_then(|tagged| tagged.split_once(mark))
            && !user.is_empty()
        {
            return user;
        }
    }
    local
}

/// `SRS0=HASH=TIME=domain=user` and `SRS1=HASH=forwarder==HASH=TIME=domain=user`, without hashes and times.
fn srs(local: &str) -> Option<String> {
    if let Some(rest) = after_srs(local, "srs0") {
        let (domain, user) = srs0(rest)?;
        return Some(format!("srs0={domain}={user}"));
    }
    let (_, rest) = after_srs(local, "srs1")?.split_once('=')?;
    let (forwarder, rest) = rest.split_once('=')?;
    let (domain, user) = srs0(rest.strip_prefix(SRS_MARKS)?)?;
    Some(format!("srs1={forwarder}={domain}={user}"))
}

fn after_srs<'a>(local: &'a str, prefix: &str) -> Option<&'a str> {
    local.strip_prefix(prefix)?.strip_prefix(SRS_MARKS)
}

/// The domain and the user in `HASH=TIME=domain=user`.
fn srs0(stamped: &str) -> Option<(&str, &str)> {
    let mut fields = stamped.splitn(4, '=');
    let (_hash, _time) = (fields.next()?, fields.next()?);
    Some((fields.next()?, fields.next()?))
}

fn without_extension(local: &str) -> &str {
    match local.split_once('+') {
        Some((user, _)) if !user.is_empty() => user,
        _ => local,
    }
}

/// `list-return-user=example.org`: the recipient stands behind the last hyphen before `=`.
fn without_verp(local: &str) -> String {
    let Some((before, _domain)) = local.split_once('=') else { return local.to_owned() };
    match before.rsplit_once('-') {
        Some((list, _user)) => format!("{list}-#"),
        None => "#".to_owned(),
    }
}

/// Puts `#` for every part that is a number or looks like an identifier.
fn without_numbers(local: &str) -> String {
    let mut shown = String::new();
    for part in local.split_inclusive(['-', '.', '_']) {
        let word = part.trim_end_matches(['-', '.', '_']);
        if is_serial(word) {
            shown.push('#');
            shown.extend(part.chars().skip(word.len()));
        } else {
            shown.push_str(part);
        }
    }
    shown
}

/// A number, eight or more hexadecimal digits, or a long word with digits in it.
fn is_serial(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let hex = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match (digits, word.len()) {
        (0, _) => false,
        (digits, all) if digits == all => true,
        (_, all) => (hex && all >= HEX_DIGITS) || all >= TOKEN,
    }
}

/// Far above RFC 5321 4.5.3.1.3's 256; what is longer shares an entry.
const ADDRESS_LIMIT: usize = 1_000;

/// SRS separators: `=` in most implementations, `+` and `-` allowed.
const SRS_MARKS: [char; 3] = ['=', '+', '-'];

/// Shorter hexadecimal words occur in names.
const HEX_DIGITS: usize = 8;

/// No user name with digits in it is as long as a base32 or base64 token.
const TOKEN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn same(addresses: &[&str], normal: &str) {
        for address in addresses {
            assert_eq!(sender(address.as_bytes()), normal, "{address}");
        }
    }

    #[test]
    fn ordinary_senders_stay_what_they_are() {
        for address in [
            "joe@example.org",
            "o'brien@example.org",
            "#x!y$z%@example.org",
            "joe.public@example.org",
            "joe2@example.org",
            "a-b-c@example.org",
            "beef@example.org",
            "postmaster",
            "joe@[192.0.2.1]",
            "",
        ] {
            same(&[address], address);
        }
    }

    #[test]
    fn case_and_extensions() {
        same(
            &["joe@example.org", "Joe@Example.ORG", "joe+a@example.org", "JOE+b+c@example.org"],
            "joe@example.org",
        );
        same(&["+x@example.org"], "+x@example.org");
    }

    // draft-levine-smtp-batv-01 4: prvs=KDDDSSSSSS=local-part
    #[test]
    fn batv_tags() {
        same(
            &[
                "prvs=0123ab45cd=joe@example.org",
                "prvs=9876543210=joe@example.org",
                "joe@example.org",
            ],
            "joe@example.org",
        );
        same(
            &["btv1==03922==joe@example.org", "msprvs1=18abCD=joe@example.org"],
            "joe@example.org",
        );
        same(&["prvs=x@example.org"], "#@example.org");
    }

    // The SRS paper: SRS0=HHH=TT=hostname=local-part, SRS1=HHH=firsthop==HHH=TT=hostname=local-part
    #[test]
    fn srs_stamps() {
        same(
            &[
                "SRS0=abCd=X1=example.net=joe@fwd.example",
                "srs0+1234=Y2=example.net=joe@fwd.example",
            ],
            "srs0=example.net=joe@fwd.example",
        );
        same(
            &[
                "SRS1=aaaa=fwd.example==bbbb=X1=example.net=joe@fwd2.example",
                "SRS1=cccc=fwd.example=+dddd=Y2=example.net=joe@fwd2.example",
            ],
            "srs1=fwd.example=example.net=joe@fwd2.example",
        );
        same(
            &["prvs=0123ab45cd=SRS0=abCd=X1=a.example=joe@b.example"],
            "srs0=a.example=joe@b.example",
        );
        same(&["SRS0=broken@fwd.example"], "#@fwd.example");
    }

    #[test]
    fn verp_recipients() {
        same(
            &[
                "list-return-17-joe=example.org@lists.example",
                "list-return-18-ann=example.net@lists.example",
            ],
            "list-return-#-#@lists.example",
        );
        same(&["bounces+17-joe=example.org@em.example"], "bounces@em.example");
    }

    #[test]
    fn numbers_and_tokens() {
        same(&["bounce-123-45.6@x.example", "bounce-9-1.7@x.example"], "bounce-#-#.#@x.example");
        same(&["msg_0a1b2c3d4e@x.example", "msg_ffffffff00@x.example"], "msg_#@x.example");
        same(&["0100018f3a-b2c4d6e8-1234-4f@x.example"], "#-#-#-4f@x.example");
        same(&["zx81abcdefghijklmnopq@x.example"], "#@x.example");
    }

    #[test]
    fn bytes_that_are_no_ascii_stay_apart_and_printable() {
        assert_eq!(sender(b"J\xfc\x00rg@x"), "j\\xfc\\x00rg@x");
        assert_ne!(sender(b"\xfc@x"), sender(b"\xfd@x"));
    }
}
