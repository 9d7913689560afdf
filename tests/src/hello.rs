//! A ClientHello made by hand, which may ask for any bytes as its server's name, and what a server answers to it.

use std::io::Read;
use std::net::TcpStream;

/// What a server's first flight says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A certificate, in DER (TLS 1.2, where it comes in clear).
    Certificate(Vec<u8>),
    /// A ServerHello whose certificate is encrypted (TLS 1.3).
    Accepted,
    /// An alert, by its number (RFC 8446 6).
    Alert(u8),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ClientHello {
    /// The content of the extension server_name; none leaves the extension out.
    pub server_name: Option<Vec<u8>>,
    /// The signature schemes (RFC 8446 4.2.3).
    pub schemes: Vec<u16>,
    /// Whether TLS 1.3 is offered, and no TLS 1.2.
    pub tls_1_3: bool,
    /// The one key share of TLS 1.3: its group (RFC 8446 4.2.7) and its bytes.
    pub share: (u16, Vec<u8>),
}

impl ClientHello {
    /// TLS 1.2 with every scheme that a server's certificate may need, and this name.
    pub fn asking_for(name: &[u8]) -> ClientHello {
        let schemes = vec![0x0403, 0x0503, 0x0807, 0x0804, 0x0805, 0x0401];
        let share = (X25519, vec![9; 32]);
        ClientHello { server_name: Some(host_name(name)), schemes, tls_1_3: false, share }
    }

    /// The record to be sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut extension = |number: u16, content: &[u8]| {
            extensions.extend(number.to_be_bytes());
            extensions.extend(counted(content));
        };
        if let Some(content) = &self.server_name {
            extension(0, content);
        }
        let schemes: Vec<u8> = self.schemes.iter().flat_map(|n| n.to_be_bytes()).collect();
        let group = self.share.0.to_be_bytes();
        extension(10, &counted(&group));
        extension(11, &[1, 0]);
        extension(13, &counted(&schemes));
        if self.tls_1_3 {
            extension(43, &[2, 3, 4]);
            extension(51, &counted(&[&group[..], &counted(&self.share.1)].concat()));
        }
        let suites: &[u8] = if self.tls_1_3 { &[0x13, 0x01] } else { &[0xc0, 0x2b, 0xc0, 0x2f] };
        let parts = [&[3, 3][..], &[7; 32], &[0], &counted(suites), &[1, 0], &counted(&extensions)];
        let body = parts.concat();
        let length = u32::try_from(body.len()).expect("a short hello").to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        [&[22, 3, 1][..], &counted(&message)].concat()
    }
}

/// The content of server_name for one host name (RFC 6066 3).
pub fn host_name(name: &[u8]) -> Vec<u8> {
    counted(&[&[0][..], &counted(name)].concat())
}

/// Reads a server's first flight until it has said enough.
pub fn answer(mut stream: &TcpStream) -> Answer {
    let mut messages = Vec::new();
    loop {
        let mut header = [0; 5];
        stream.read_exact(&mut header).expect("a record");
        let mut content = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        stream.read_exact(&mut content).expect("a whole record");
        match header[0] {
            21 => return Answer::Alert(content[1]),
            22 => messages.extend(content),
            _ => return Answer::Accepted,
        }
        if let Some(leaf) = certificate(&messages) {
            return Answer::Certificate(leaf);
        }
    }
}

/// The first certificate of the message Certificate (RFC 5246 7.4.2), once it is there.
fn certificate(mut messages: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (kind, rest) = messages.split_first()?;
        let (body, rest) = rest.split_at_checked(number(rest)? + 3)?;
        if *kind == 11 {
            let leaf = &body[6..];
            return Some(leaf[3..3 + number(leaf)?].to_vec());
        }
        messages = rest;
    }
}

fn number(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.first_chunk::<3>()?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// Bytes behind their count of two bytes.
pub fn counted(bytes: &[u8]) -> Vec<u8> {
    let count = u16::try_from(bytes.len()).expect("a short field");
    [&count.to_be_bytes()[..], bytes].concat()
}

/// RFC 8446 4.2.7.
pub const X25519: u16 = 29;
/// draft-ietf-tls-ecdhe-mlkem 6.
pub const X25519_MLKEM_768: u16 = 0x11ec;
