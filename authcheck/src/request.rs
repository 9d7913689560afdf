//! Descriptor 3: what a checkpassword program is asked.

use crate::cram;
use crate::secret::Secret;
use crate::verify::Proof;

/// One request: who, and how it can be shown to be true; any proof that holds will do.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Who the client says it is.
    pub login: Vec<u8>,
    /// One proof, or two where the fields can mean either.
    pub proofs: Vec<Proof>,
}

/// In which order a caller writes CRAM-MD5's two fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Told by the form of the fields, the password's meaning kept.
    #[default]
    ByForm,
    /// Login, digest, challenge: most patches.
    Hoffmann,
    /// Login, challenge, digest.
    Dabrowski,
    /// Login, password, timestamp: the caller does no CRAM-MD5.
    Plain,
}

/// The fields are not what checkpassword's interface asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misused;

impl Order {
    /// The order with this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "hoffmann" => Some(Self::Hoffmann),
            "dabrowski" => Some(Self::Dabrowski),
            "plain" => Some(Self::Plain),
            _ => None,
        }
    }
}

impl Request {
    /// Takes 2 to 4 fields apart, each ended by NUL.
    pub fn parse(bytes: &[u8], order: Order) -> Result<Self, Misused> {
        let fields = bytes.strip_suffix(b"\0").ok_or(Misused)?;
        let fields: Vec<_> = fields.split(|byte| *byte == 0).collect();
        let (login, second, third) = match fields[..] {
            [login, second] => (login, second, &b""[..]),
            [login, second, third] | [login, second, third, _] => (login, second, third),
            _ => return Err(Misused),
        };
        let cram = |challenge: &[u8], digest: &[u8]| Proof::Cram {
            challenge: challenge.to_vec(),
            digest: digest.to_vec(),
        };
        let password = Proof::Password(Secret::from(second));
        let proofs = match order {
            Order::Hoffmann if !third.is_empty() => vec![cram(third, second)],
            Order::Dabrowski if !third.is_empty() => vec![cram(second, third)],
            // A password of 32 hex digits looks the same where the third field is a POP3 banner's stamp.
            Order::ByForm if cram::is_digest(second) && cram::is_challenge(third) => {
                vec![cram(third, second), password]
            }
            Order::ByForm if cram::is_challenge(second) && cram::is_digest(third) => {
                vec![cram(second, third), password]
            }
            _ => vec![password],
        };
        Ok(Self { login: login.to_vec(), proofs })
    }
}

/// The bytes for a checkpassword program; CRAM-MD5's as most patches write them, unless told otherwise.
pub fn write(login: &[u8], proof: &Proof, order: Order) -> Secret {
    let (second, third) = match (proof, order) {
        (Proof::Password(password), _) => (&password[..], &b""[..]),
        (Proof::Cram { challenge, digest }, Order::Dabrowski) => (&challenge[..], &digest[..]),
        (Proof::Cram { challenge, digest }, _) => (&digest[..], &challenge[..]),
    };
    Secret::new([login, b"\0", second, b"\0", third, b"\0"].concat())
}

/// Longest request in bytes: the longest SASL message that RFC 4954 4 lets a client send.
pub const REQUEST_MAX: usize = 12_288;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &[u8] = b"b913a602c7eda7a495b4e6e7334d3890";
    const CHALLENGE: &[u8] = b"<1896.697170952@postoffice.reston.mci.net>";

    fn password(password: &[u8]) -> Proof {
        Proof::Password(password.into())
    }

    fn cram() -> Proof {
        Proof::Cram { challenge: CHALLENGE.to_vec(), digest: DIGEST.to_vec() }
    }

    fn fields(fields: &[&[u8]]) -> Vec<u8> {
        fields.iter().flat_map(|field| [field, &b"\0"[..]].concat()).collect()
    }

    #[test]
    fn every_layout_of_fields() {
        use Order::*;
        for (text, order, proofs) in [
            (fields(&[b"tim", b"secret"]), ByForm, vec![password(b"secret")]),
            (fields(&[b"tim", b"secret", b""]), ByForm, vec![password(b"secret")]),
            (fields(&[b"tim", b"secret", b"Y123456"]), ByForm, vec![password(b"secret")]),
            (fields(&[b"tim", b"secret", CHALLENGE]), ByForm, vec![password(b"secret")]),
            (fields(&[b"tim", b"secret", b"", b"\x01"]), ByForm, vec![password(b"secret")]),
            (fields(&[b"tim", DIGEST, CHALLENGE]), ByForm, vec![cram(), password(DIGEST)]),
            (fields(&[b"tim", CHALLENGE, DIGEST]), ByForm, vec![cram(), password(CHALLENGE)]),
            (
                fields(&[b"tim", CHALLENGE, DIGEST, b"\x03"]),
                ByForm,
                vec![cram(), password(CHALLENGE)],
            ),
            (fields(&[b"tim", DIGEST, CHALLENGE]), Hoffmann, vec![cram()]),
            (fields(&[b"tim", CHALLENGE, DIGEST]), Dabrowski, vec![cram()]),
            (fields(&[b"tim", DIGEST, CHALLENGE]), Plain, vec![password(DIGEST)]),
            (fields(&[b"tim", DIGEST]), Hoffmann, vec![password(DIGEST)]),
            (fields(&[b"tim", b"secret", b""]), Dabrowski, vec![password(b"secret")]),
        ] {
            let request = Request::parse(&text, order).unwrap();
            assert_eq!((&request.login[..], &request.proofs), (&b"tim"[..], &proofs));
        }
    }

    #[test]
    fn what_is_no_request() {
        let none: &[&[u8]] =
            &[b"", b"tim", b"tim\0", b"tim\0secret", b"tim\0secret\0x", b"a\0b\0c\0d\0e\0"];
        for bytes in none {
            assert_eq!(Request::parse(bytes, Order::ByForm), Err(Misused));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (proof, order) in [
            (password(b"secret"), Order::ByForm),
            (cram(), Order::Hoffmann),
            (cram(), Order::Dabrowski),
        ] {
            let request = Request::parse(&write(b"tim", &proof, order), order).unwrap();
            assert_eq!(request.proofs, [proof]);
        }
    }
}
