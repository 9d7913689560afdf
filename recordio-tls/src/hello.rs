//! ClientHello and ServerHello, taken apart (RFC 8446 4.1, RFC 5246 7.4.1).

use std::fmt::{self, Display};

use crate::names::{Name, is_grease};
use crate::story::shown;

/// What a client offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it wants (RFC 6066 3).
    pub server_name: Option<Vec<u8>>,
    /// The versions, best first; without the extension, the one of the hello itself.
    pub versions: Vec<u16>,
    /// How many cipher suites.
    pub ciphers: usize,
    /// The groups, best first.
    pub groups: Vec<u16>,
    /// The groups for which it sent a key at once.
    pub key_shares: Vec<u16>,
    /// The protocols of ALPN (RFC 7301).
    pub protocols: Vec<Vec<u8>>,
    /// The session that it wants to resume, by id (before TLS 1.3; in 1.3 it means nothing).
    pub session: Vec<u8>,
    /// Whether it holds a ticket or a pre-shared key.
    pub resumes: bool,
    /// Whether data follow before the handshake is over.
    pub early_data: bool,
    /// Whether the true name is encrypted.
    pub encrypted: bool,
}

/// What the server chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// Whether the client shall send another hello.
    pub retry: bool,
    /// The version.
    pub version: u16,
    /// The cipher suite.
    pub cipher: u16,
    /// The group (TLS 1.3).
    pub group: Option<u16>,
    /// The session by its id.
    pub session: Vec<u8>,
    /// Whether a pre-shared key was taken (TLS 1.3).
    pub resumed: bool,
}

impl ClientHello {
    /// Takes the body of the message apart; none if it is malformed.
    pub fn parse(message: &[u8]) -> Option<ClientHello> {
        let mut reader = Reader(message);
        let legacy = reader.u16()?;
        reader.take(RANDOM)?;
        let session = reader.vector8()?.to_vec();
        let ciphers = reader.vector16()?;
        let ciphers = numbers(ciphers)?.into_iter().filter(|&suite| !is_grease(suite)).count();
        reader.vector8()?;
        let mut hello = ClientHello { ciphers, session, ..ClientHello::default() };
        let mut extensions = reader.extensions()?;
        while let Some((kind, body)) = extensions.next_extension()? {
            hello.extension(kind, body)?;
        }
        if hello.versions.is_empty() {
            hello.versions.push(legacy);
        }
        Some(hello)
    }

    fn extension(&mut self, kind: u16, body: &[u8]) -> Option<()> {
        let mut body = Reader(body);
        match kind {
            SERVER_NAME => {
                let mut names = Reader(body.vector16()?);
                names.u8()?;
                self.server_name = Some(names.vector16()?.to_vec());
            }
            SUPPORTED_GROUPS => self.groups = known(numbers(body.vector16()?)?),
            SUPPORTED_VERSIONS => self.versions = known(numbers(body.vector8()?)?),
            ALPN => {
                let mut protocols = Reader(body.vector16()?);
                while !protocols.0.is_empty() {
                    self.protocols.push(protocols.vector8()?.to_vec());
                }
            }
            KEY_SHARE => {
                let mut shares = Reader(body.vector16()?);
                while !shares.0.is_empty() {
                    self.key_shares.push(shares.u16()?);
                    shares.vector16()?;
                }
                self.key_shares = known(std::mem::take(&mut self.key_shares));
            }
            PRE_SHARED_KEY => self.resumes = true,
            SESSION_TICKET => self.resumes |= !body.0.is_empty(),
            EARLY_DATA => self.early_data = true,
            ENCRYPTED_HELLO => self.encrypted = true,
            _ => {}
        }
        Some(())
    }
}

impl ServerHello {
    /// Takes the body of the message apart; none if it is malformed.
    pub fn parse(message: &[u8]) -> Option<ServerHello> {
        let mut reader = Reader(message);
        let version = reader.u16()?;
        let retry = reader.take(RANDOM)? == RETRY;
        let session = reader.vector8()?.to_vec();
        let cipher = reader.u16()?;
        reader.u8()?;
        let mut hello = ServerHello { retry, version, cipher, session, ..ServerHello::default() };
        let mut extensions = reader.extensions()?;
        while let Some((kind, body)) = extensions.next_extension()? {
            let mut body = Reader(body);
            match kind {
                SUPPORTED_VERSIONS => hello.version = body.u16()?,
                KEY_SHARE => hello.group = Some(body.u16()?),
                PRE_SHARED_KEY => hello.resumed = true,
                _ => {}
            }
        }
        Some(hello)
    }
}

/// The group of a ServerKeyExchange of TLS 1.2 with a named curve (RFC 8422 5.4).
pub fn key_exchange_group(message: &[u8]) -> Option<u16> {
    let mut reader = Reader(message);
    (reader.u8()? == NAMED_CURVE).then(|| reader.u16())?
}

impl Display for ClientHello {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TLS ClientHello sni=")?;
        match &self.server_name {
            Some(name) => write!(out, "{}", shown(name))?,
            None => out.write_str("none")?,
        }
        list(out, " versions=", self.versions.iter().map(|&version| Name::Version(version)))?;
        list(out, " groups=", self.groups.iter().map(|&group| Name::Group(group)))?;
        list(out, " keys=", self.key_shares.iter().map(|&group| Name::Group(group)))?;
        list(out, " alpn=", self.protocols.iter().map(|protocol| shown(protocol)))?;
        write!(out, " ciphers={}", self.ciphers)?;
        for (flag, word) in [
            (self.resumes, " resumes"),
            (self.early_data, " early_data"),
            (self.encrypted, " encrypted_hello"),
        ] {
            out.write_str(if flag { word } else { "" })?;
        }
        Ok(())
    }
}

impl Display for ServerHello {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.retry { "TLS HelloRetryRequest" } else { "TLS ServerHello" })?;
        write!(
            out,
            " version={} cipher={}",
            Name::Version(self.version),
            Name::Cipher(self.cipher)
        )?;
        if let Some(group) = self.group {
            write!(out, " group={}", Name::Group(group))?;
        }
        out.write_str(if self.resumed { " resumed" } else { "" })
    }
}

/// A list behind its key; nothing where it is empty.
fn list(
    out: &mut fmt::Formatter<'_>,
    key: &str,
    values: impl Iterator<Item = impl Display>,
) -> fmt::Result {
    let mut before = key;
    for value in values.take(LIST_MAX) {
        write!(out, "{before}{value}")?;
        before = ",";
    }
    Ok(())
}

fn known(numbers: Vec<u16>) -> Vec<u16> {
    numbers.into_iter().filter(|&number| !is_grease(number)).collect()
}

fn numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let mut reader = Reader(bytes);
    let mut numbers = Vec::new();
    while !reader.0.is_empty() {
        numbers.push(reader.u16()?);
    }
    Some(numbers)
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// The extensions; before TLS 1.3 a hello may end without any.
    fn extensions(&mut self) -> Option<Reader<'a>> {
        if self.0.is_empty() { Some(Reader(&[])) } else { self.vector16().map(Reader) }
    }

    /// The next extension, or none at the end; malformed where there is neither.
    fn next_extension(&mut self) -> Option<Option<(u16, &'a [u8])>> {
        if self.0.is_empty() {
            return Some(None);
        }
        Some(Some((self.u16()?, self.vector16()?)))
    }
}

const RANDOM: usize = 32;

/// RFC 8446 4.1.3: the random that makes a ServerHello a HelloRetryRequest.
const RETRY: [u8; RANDOM] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const ALPN: u16 = 16;
const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const ENCRYPTED_HELLO: u16 = 0xfe0d;
const NAMED_CURVE: u8 = 3;

/// Longest list shown: no client offers so many, and a line stays below 4,000 bytes.
const LIST_MAX: usize = 40;
