//! The messages between net and the holder of the key: typed, bounded, and nothing else.

/// What net says: to the monitor, and between `Prepare` and `Release` to the key process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNet {
    /// A handshake is about to begin; answered by `Ready` or `Unavailable`.
    Prepare,
    /// Choose a certificate; answered by `Certified` or `Refused`.
    Certify {
        /// The name that the client asked for, or empty.
        name: Vec<u8>,
        /// The signature schemes that it takes (RFC 8446 4.2.3).
        schemes: Vec<u16>,
    },
    /// Sign a handshake's transcript; answered by `Signed` or `Refused`.
    Sign {
        /// By this scheme.
        scheme: u16,
        /// The content to be signed, not hashed.
        message: Vec<u8>,
    },
    /// The key is not needed any more; not answered.
    Release,
    /// The handshake is done: start the program; not answered.
    Secured(Facts),
}

/// What net is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToNet {
    /// The key is there and fits its certificate.
    Ready,
    /// There is no usable key now.
    Unavailable,
    /// A certificate for this handshake.
    Certified {
        /// The schemes that its key can sign by, best first, of those asked for.
        schemes: Vec<u16>,
        /// The chain, the server's own certificate first, each in DER.
        chain: Vec<Vec<u8>>,
    },
    /// The signature.
    Signed(Vec<u8>),
    /// No.
    Refused,
}

/// What a handshake settled; numbers, so that their names are the monitor's alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The protocol's version (RFC 8446 4.2.1).
    pub version: u16,
    /// The cipher suite (RFC 8446 B.4).
    pub suite: u16,
    /// The key exchange group (RFC 8446 4.2.7), or 0.
    pub group: u16,
    /// The name that the client asked for, or empty.
    pub name: Vec<u8>,
    /// The session was resumed.
    pub resumed: bool,
    /// The tls-exporter channel binding of 32 bytes (RFC 9266), or empty.
    pub exporter: Vec<u8>,
}

/// The largest message of either direction in bytes: a chain of ten large certificates fits.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// A name has at most 253 bytes (RFC 1035 2.3.4); longer ones are cut to nothing.
const NAME_LIMIT: usize = 255;
/// More signature schemes than any client offers.
const SCHEME_LIMIT: usize = 128;
/// A TLS 1.2 transcript with the longest of our points has 165 bytes.
const TRANSCRIPT_LIMIT: usize = 256;
/// A signature by a 16,384-bit RSA key.
const SIGNATURE_LIMIT: usize = 2048;
/// The length of a tls-exporter binding (RFC 9266 2).
const EXPORTER_LIMIT: usize = 32;
/// The most certificates in a chain: longer ones are no use to anybody.
pub const CHAIN_LIMIT: usize = 16;

impl FromNet {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            FromNet::Prepare => out.byte(b'p'),
            FromNet::Certify { name, schemes } => {
                out.byte(b'c');
                out.bytes(name);
                out.numbers(schemes);
            }
            FromNet::Sign { scheme, message } => {
                out.byte(b's');
                out.number(*scheme);
                out.bytes(message);
            }
            FromNet::Release => out.byte(b'r'),
            FromNet::Secured(facts) => {
                out.byte(b't');
                out.number(facts.version);
                out.number(facts.suite);
                out.number(facts.group);
                out.bytes(&facts.name);
                out.byte(facts.resumed.into());
                out.bytes(&facts.exporter);
            }
        }
        out.0
    }

    /// The message that these bytes are, all of them, or none.
    pub fn decode(bytes: &[u8]) -> Option<FromNet> {
        let mut input = Reader(bytes);
        let message = match input.byte()? {
            b'p' => FromNet::Prepare,
            b'c' => FromNet::Certify {
                name: input.bytes(NAME_LIMIT)?,
                schemes: input.numbers(SCHEME_LIMIT)?,
            },
            b's' => {
                FromNet::Sign { scheme: input.number()?, message: input.bytes(TRANSCRIPT_LIMIT)? }
            }
            b'r' => FromNet::Release,
            b't' => FromNet::Secured(Facts {
                version: input.number()?,
                suite: input.number()?,
                group: input.number()?,
                name: input.bytes(NAME_LIMIT)?,
                resumed: input.boolean()?,
                exporter: input.bytes(EXPORTER_LIMIT)?,
            }),
            _ => return None,
        };
        input.0.is_empty().then_some(message)
    }
}

impl ToNet {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            ToNet::Ready => out.byte(b'R'),
            ToNet::Unavailable => out.byte(b'U'),
            ToNet::Certified { schemes, chain } => {
                out.byte(b'C');
                out.numbers(schemes);
                for certificate in chain {
                    out.bytes(certificate);
                }
            }
            ToNet::Signed(signature) => {
                out.byte(b'S');
                out.bytes(signature);
            }
            ToNet::Refused => out.byte(b'N'),
        }
        out.0
    }

    /// The message that these bytes are, all of them, or none.
    pub fn decode(bytes: &[u8]) -> Option<ToNet> {
        let mut input = Reader(bytes);
        let message = match input.byte()? {
            b'R' => ToNet::Ready,
            b'U' => ToNet::Unavailable,
            b'C' => {
                ToNet::Certified { schemes: input.numbers(SCHEME_LIMIT)?, chain: input.chain()? }
            }
            b'S' => ToNet::Signed(input.bytes(SIGNATURE_LIMIT)?),
            b'N' => ToNet::Refused,
            _ => return None,
        };
        input.0.is_empty().then_some(message)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u16) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// A field too long for its length is sent as an empty one, which nobody accepts where it matters.
    fn bytes(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(length) => {
                self.number(length);
                self.0.extend_from_slice(bytes);
            }
            Err(_) => self.number(0),
        }
    }

    fn numbers(&mut self, numbers: &[u16]) {
        let bytes: Vec<u8> =
            numbers.iter().take(SCHEME_LIMIT).flat_map(|number| number.to_be_bytes()).collect();
        self.bytes(&bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn bytes(&mut self, limit: usize) -> Option<Vec<u8>> {
        let length = usize::from(self.number()?);
        if length > limit {
            return None;
        }
        self.take(length).map(<[u8]>::to_vec)
    }

    fn numbers(&mut self, limit: usize) -> Option<Vec<u16>> {
        let bytes = self.bytes(limit.saturating_mul(2))?;
        let pairs = bytes.chunks_exact(2);
        pairs.remainder().is_empty().then(|| {
            pairs.filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?))).collect()
        })
    }

    fn chain(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut chain = Vec::new();
        while !self.0.is_empty() {
            chain.push(self.bytes(MESSAGE_LIMIT)?);
        }
        (chain.len() <= CHAIN_LIMIT && chain.iter().all(|der| !der.is_empty())).then_some(chain)
    }
}

/// What holds for any bytes: a message that is read is written as the same bytes; says how many were read.
#[cfg(any(test, feature = "properties"))]
pub fn decodes_to_itself(bytes: &[u8]) -> usize {
    let (from, to) = (FromNet::decode(bytes), ToNet::decode(bytes));
    let again = from.iter().map(FromNet::encode).chain(to.iter().map(ToNet::encode));
    again.inspect(|again| assert_eq!(again, bytes)).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]

    use super::*;

    fn from_net() -> Vec<FromNet> {
        let facts = Facts {
            version: 0x0304,
            suite: 0x1302,
            group: 29,
            name: b"mx.example.org".to_vec(),
            resumed: true,
            exporter: vec![7; 32],
        };
        vec![
            FromNet::Prepare,
            FromNet::Certify { name: b"mx.example.org".to_vec(), schemes: vec![0x0403, 0x0804] },
            FromNet::Certify { name: Vec::new(), schemes: Vec::new() },
            FromNet::Sign { scheme: 0x0403, message: vec![b' '; 146] },
            FromNet::Release,
            FromNet::Secured(facts),
            FromNet::Secured(Facts::default()),
        ]
    }

    fn to_net() -> Vec<ToNet> {
        vec![
            ToNet::Ready,
            ToNet::Unavailable,
            ToNet::Certified { schemes: vec![0x0403], chain: vec![vec![1; 1000], vec![2; 2000]] },
            ToNet::Signed(vec![3; 72]),
            ToNet::Refused,
        ]
    }

    #[test]
    fn every_message_comes_back_and_no_part_of_one_does() {
        for message in from_net() {
            let bytes = message.encode();
            assert_eq!(FromNet::decode(&bytes).as_ref(), Some(&message));
            assert_eq!(FromNet::decode(&[&bytes[..], b"x"].concat()), None);
            for length in 0..bytes.len() {
                assert_eq!(FromNet::decode(&bytes[..length]), None, "{message:?} {length}");
            }
        }
        for message in to_net() {
            let bytes = message.encode();
            assert_eq!(ToNet::decode(&bytes).as_ref(), Some(&message));
            assert_eq!(ToNet::decode(&[&bytes[..], b"x"].concat()), None);
            assert_eq!(ToNet::decode(&bytes[..bytes.len() - 1]).as_ref(), None);
        }
    }

    // DESIGN 2: typed, bounded messages; whatever bytes come, decoding neither panics nor takes two texts for one message.
    #[test]
    fn random_bytes_are_no_message_or_exactly_one() {
        let whole: Vec<Vec<u8>> = from_net()
            .iter()
            .map(FromNet::encode)
            .chain(to_net().iter().map(ToNet::encode))
            .collect();
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut messages = 0;
        for round in 0..20_000 {
            let mut bytes = match round % 2 {
                0 => whole[random(whole.len())].clone(),
                _ => (0..random(600)).map(|_| u8::try_from(random(256)).unwrap()).collect(),
            };
            for _ in 0..random(4) {
                let at = random(bytes.len().max(1));
                match random(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.extend_from_within(..at.min(bytes.len())),
                    _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = random(256) as u8),
                }
            }
            messages += decodes_to_itself(&bytes);
        }
        assert!(messages > 1_000, "{messages}");
    }

    #[test]
    fn fields_over_their_limits_are_refused() {
        let long = |length: usize| FromNet::Certify { name: vec![b'a'; length], schemes: vec![] };
        assert!(FromNet::decode(&long(NAME_LIMIT).encode()).is_some());
        assert_eq!(FromNet::decode(&long(NAME_LIMIT + 1).encode()), None);
        let sign = |length: usize| FromNet::Sign { scheme: 0, message: vec![b' '; length] };
        assert_eq!(FromNet::decode(&sign(TRANSCRIPT_LIMIT + 1).encode()), None);
        let chain = |count| ToNet::Certified { schemes: vec![], chain: vec![vec![1]; count] };
        assert!(ToNet::decode(&chain(CHAIN_LIMIT).encode()).is_some());
        assert_eq!(ToNet::decode(&chain(CHAIN_LIMIT + 1).encode()), None);
    }
}
