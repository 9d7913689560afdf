//! The envelope that qmail-queue reads, and the header lines that it becomes.

use crate::exit::{self, Failure};

/// `F<sender>\0`, then `T<recipient>\0` for each recipient, then `\0`.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    sender: &'a [u8],
    recipients: Vec<&'a [u8]>,
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart; one that was not finished means that there is no message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Failure> {
        let mut entries = bytes.split_inclusive(|&byte| byte == 0);
        let mut next = || match entries.next().and_then(|entry| entry.split_last()) {
            Some((0, entry)) if entry.len() > ENTRY_LIMIT => Err(exit::ADDRESS_TOO_LONG),
            Some((0, entry)) => Ok(entry),
            _ => Err(exit::READ),
        };
        let sender = next()?.strip_prefix(b"F").ok_or(exit::FORMAT)?;
        let mut recipients = Vec::new();
        loop {
            match next()? {
                [] if recipients.is_empty() => return Err(exit::FORMAT),
                [] => return Ok(Self { sender, recipients }),
                [b'T', recipient @ ..] => recipients.push(recipient),
                _ => return Err(exit::FORMAT),
            }
        }
    }

    /// Return-Path and a Delivered-To for each recipient, as qmail-local writes them.
    pub fn header(&self) -> Vec<u8> {
        let mut header = [b"Return-Path: <", quoted(self.sender).as_slice(), b">\n"].concat();
        for recipient in &self.recipients {
            header.extend_from_slice(b"Delivered-To: ");
            header.extend(recipient.iter().map(|&byte| visible(byte)));
            header.push(b'\n');
        }
        header
    }
}

/// An address with its local part as RFC 5322 3.4.1 wants it.
fn quoted(address: &[u8]) -> Vec<u8> {
    let at = address.iter().rposition(|&byte| byte == b'@').unwrap_or(address.len());
    let (local, domain) = address.split_at_checked(at).unwrap_or((address, &[]));
    if local.iter().all(|&byte| is_plain(byte)) {
        return address.to_vec();
    }
    let mut quoted = vec![b'"'];
    for &byte in local {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(visible(byte));
    }
    quoted.push(b'"');
    quoted.extend(domain.iter().map(|&byte| visible(byte)));
    quoted
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 128 || b"!#$%&'*+-./=?^_`{|}~".contains(&byte)
}

/// No address may add a line to the header.
fn visible(byte: u8) -> u8 {
    if byte.is_ascii_control() { b'_' } else { byte }
}

/// qmail-queue's limit of 1,003 bytes, the letter included, its NUL not.
const ENTRY_LIMIT: usize = 1003;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_and_what_they_become() {
        let envelope = Envelope::parse(b"Fa@b\0Tc@d\0Te\nf@g\0\0ignored").unwrap();
        let header = envelope.header();
        assert_eq!(
            header.escape_ascii().to_string(),
            "Return-Path: <a@b>\\nDelivered-To: c@d\\nDelivered-To: e_f@g\\n"
        );
        assert!(Envelope::parse(b"F\0Tx\0\0").unwrap().header().starts_with(b"Return-Path: <>\n"));
        assert_eq!(quoted(b"a b\"\n@c"), b"\"a b\\\"_\"@c");
    }

    // qmail-queue(8): exit codes 11, 54 and 91.
    #[test]
    fn what_is_no_envelope() {
        let long = |length| [b"F\0T".to_vec(), vec![b'x'; length], b"\0\0".to_vec()].concat();
        assert!(Envelope::parse(&long(1002)).is_ok());
        for (bytes, failure) in [
            (&b""[..], exit::READ),
            (b"F", exit::READ),
            (b"Fa@b\0", exit::READ),
            (b"Fa@b\0Tc@d", exit::READ),
            (b"Fa@b\0Tc@d\0", exit::READ),
            (b"Ta@b\0\0", exit::FORMAT),
            (b"\0", exit::FORMAT),
            (b"Fa@b\0Xc@d\0\0", exit::FORMAT),
            (b"Fa@b\0Fc@d\0\0", exit::FORMAT),
            (b"Fa@b\0\0", exit::FORMAT),
            (&long(1003), exit::ADDRESS_TOO_LONG),
        ] {
            assert_eq!(Envelope::parse(bytes), Err(failure), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn an_envelope_cut_anywhere_is_none() {
        let whole = b"Fsender@example.org\0Tone@example.net\0Ttwo@example.net\0\0";
        assert!(Envelope::parse(whole).is_ok());
        for cut in 0..whole.len() {
            assert_eq!(Envelope::parse(&whole[..cut]), Err(exit::READ), "{cut}");
        }
    }
}
