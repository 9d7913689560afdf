//! An SMTP client that can do right and wrong, byte by byte, in clear and inside TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::folder::NAME;
use crate::wait::DEADLINE;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By FIN; inside TLS after close_notify.
    Clean,
    /// Inside TLS by FIN without close_notify.
    Truncated,
    /// By RST.
    Reset,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    config: Arc<ClientConfig>,
    tls: Option<ClientConnection>,
    unread: Vec<u8>,
    end: Option<End>,
    transcript: String,
}

impl Client {
    /// Connects; TLS will trust the certificates in the file `ca` only.
    pub fn connect(address: SocketAddr, ca: &Path) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a read deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a write deadline");
        let config = Arc::new(config(ca));
        Client {
            stream,
            config,
            tls: None,
            unread: Vec::new(),
            end: None,
            transcript: String::new(),
        }
    }

    /// Uses another TLS configuration (versions, SNI, client certificates) for the next handshake.
    pub fn configure(&mut self, change: impl FnOnce(&mut ClientConfig)) {
        let mut config = (*self.config).clone();
        change(&mut config);
        self.config = Arc::new(config);
    }

    /// The raw socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The TLS session, once the handshake is over.
    pub fn tls(&self) -> &ClientConnection {
        self.tls.as_ref().expect("a session inside TLS")
    }

    /// Everything said until now, as `C:` and `S:` lines.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Sends these bytes in one segment, inside TLS in one flight.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.note("C", bytes);
        self.write(bytes).unwrap_or_else(|error| panic!("send: {error}\n{}", self.transcript));
    }

    /// Sends bytes that the server may refuse to take; gives whether it took them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.note("C", bytes.as_ref());
        self.write(bytes.as_ref()).is_ok()
    }

    /// Sends these bytes in segments (inside TLS: records) cut at the given offsets.
    pub fn send_cut(&mut self, bytes: impl AsRef<[u8]>, offsets: &[usize]) {
        let mut rest = bytes.as_ref();
        self.note("C", rest);
        let mut done = 0;
        for offset in offsets {
            let (piece, after) = rest.split_at(offset - done);
            (rest, done) = (after, *offset);
            self.write(piece).unwrap_or_else(|error| panic!("send: {error}\n{}", self.transcript));
        }
        self.write(rest).unwrap_or_else(|error| panic!("send: {error}\n{}", self.transcript));
    }

    /// Sends these bytes one by one.
    pub fn send_singly(&mut self, bytes: impl AsRef<[u8]>) {
        let offsets: Vec<_> = (1..bytes.as_ref().len()).collect();
        self.send_cut(bytes, &offsets);
    }

    /// Reads one line, without its CRLF; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
                self.note("S", &line);
                return Some(line.escape_ascii().to_string());
            }
            if !self.read_more() {
                assert!(
                    self.unread.is_empty(),
                    "half a line: {:?}\n{}",
                    self.unread.escape_ascii().to_string(),
                    self.transcript
                );
                return None;
            }
        }
    }

    /// Reads one whole reply, its lines joined by `\n`; panics at the end of the stream.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let line = self
                .line()
                .unwrap_or_else(|| panic!("no reply, but the end:\n{}", self.transcript));
            let last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Sends a command and gives its reply.
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    /// Sends a command and requires a reply that begins with `expected`.
    pub fn expect(&mut self, command: &str, expected: &str) -> String {
        let reply = self.ask(command);
        assert!(reply.starts_with(expected), "not {expected}:\n{}", self.transcript);
        reply
    }

    /// Sends one mail to postmaster@NAME in a session that has seen EHLO, and gives the reply after its end.
    pub fn deliver(&mut self, message: impl AsRef<[u8]>) -> String {
        self.expect("MAIL FROM:<sender@client.test>", "250");
        self.expect(&format!("RCPT TO:<postmaster@{NAME}>"), "250");
        self.expect("DATA", "354");
        self.send([message.as_ref(), b".\r\n"].concat());
        self.reply()
    }

    /// Reads to the end of the stream; a reset counts as an end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.unread)
    }

    /// Requires that the server says nothing more and closes.
    pub fn closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "after the end: {}\n{}", rest.escape_ascii(), self.transcript);
    }

    /// How the stream ended, if its end has been read.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Sends STARTTLS, requires 220, shakes hands.
    pub fn starttls(&mut self) {
        self.expect("STARTTLS", "220");
        self.handshake();
    }

    /// Shakes hands; panics where that fails.
    pub fn handshake(&mut self) {
        self.try_handshake()
            .unwrap_or_else(|error| panic!("handshake: {error}\n{}", self.transcript));
    }

    /// Shakes hands from here on.
    pub fn try_handshake(&mut self) -> Result<(), rustls::Error> {
        let (hello, bytes) = self.hello();
        if let Err(error) = self.stream.write_all(&bytes) {
            return Err(rustls::Error::General(error.to_string()));
        }
        self.finish_handshake(hello)
    }

    /// A new TLS session and its ClientHello, not yet sent.
    pub fn hello(&self) -> (ClientConnection, Vec<u8>) {
        let name = ServerName::try_from(NAME).expect("a name");
        let mut tls = ClientConnection::new(self.config.clone(), name).expect("a TLS session");
        let mut bytes = Vec::new();
        tls.write_tls(&mut bytes).expect("a ClientHello");
        (tls, bytes)
    }

    /// Goes on with a TLS session whose ClientHello has been sent; bytes that came in clear must have been read.
    pub fn finish_handshake(&mut self, mut tls: ClientConnection) -> Result<(), rustls::Error> {
        assert!(
            self.unread.is_empty(),
            "in clear before the handshake: {}",
            self.unread.escape_ascii()
        );
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream).map_err(|error| {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                inner.cloned().unwrap_or_else(|| rustls::Error::General(error.to_string()))
            })?;
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.stream)
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        }
        self.tls = Some(tls);
        self.transcript.push_str("-- TLS\n");
        Ok(())
    }

    /// Ends the client's direction only: close_notify inside TLS, then FIN.
    pub fn half_close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.write_tls(&mut self.stream).expect("send close_notify");
        }
        self.stream.shutdown(Shutdown::Write).expect("half-close");
    }

    /// Ends the connection by RST.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &linger).expect("set SO_LINGER");
    }

    /// Plays a transcript: consecutive `C: ` lines go out in one segment, each `S: ` line must come as the next line (`*` stands for
    /// anything), `-- TLS` shakes hands, `-- end` requires the end.
    pub fn play(&mut self, script: &str) {
        self.play_in_pieces(script, usize::MAX);
    }

    /// The same, with everything sent in pieces of `size` bytes.
    pub fn play_in_pieces(&mut self, script: &str, size: usize) {
        let mut lines =
            script.lines().map(str::trim_start).filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("C:", first) => {
                    let mut bytes = format!("{first}\r\n");
                    while let Some(next) = lines.next_if(|next| next.starts_with("C:")) {
                        bytes.push_str(next.strip_prefix("C: ").unwrap_or(""));
                        bytes.push_str("\r\n");
                    }
                    let offsets: Vec<_> = (1..bytes.len()).filter(|at| at % size == 0).collect();
                    self.send_cut(bytes, &offsets);
                }
                ("S:", expected) => {
                    let line = self.line();
                    let same = line.as_ref().is_some_and(|line| matches(expected, line));
                    assert!(same, "expected S: {expected}\ngot {line:?} in\n{}", self.transcript);
                }
                ("--", "TLS") => self.handshake(),
                ("--", "end") => self.closed(),
                _ => panic!("no transcript line: {line}"),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes) };
        // rustls takes at most 64 KiB of plaintext at a time.
        for piece in bytes.chunks(16_384) {
            tls.writer().write_all(piece)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(())
    }

    /// Reads what has come, at least one byte; `false` at the end.
    fn read_more(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        while self.end.is_none() {
            let result = match &mut self.tls {
                None => self.stream.read(&mut buffer),
                Some(tls) => read_tls(tls, &mut self.stream, &mut buffer),
            };
            match result {
                Ok(0) => self.end = Some(End::Clean),
                Ok(length) => {
                    self.unread.extend_from_slice(&buffer[..length]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.end = Some(End::Reset)
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    self.end = Some(End::Truncated)
                }
                Err(error) => panic!(
                    "read: {error}, unread {}\n{}",
                    self.unread.escape_ascii(),
                    self.transcript
                ),
            }
        }
        false
    }

    fn note(&mut self, who: &str, bytes: &[u8]) {
        /// A failing test prints its transcript, but not 100 MB of body.
        const SHOWN: usize = 2_000;
        for line in bytes[..bytes.len().min(SHOWN)].split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            self.transcript.push_str(&format!("{who}: {}\n", line.escape_ascii()));
        }
    }
}

fn read_tls(
    tls: &mut ClientConnection,
    stream: &mut TcpStream,
    buffer: &mut [u8],
) -> std::io::Result<usize> {
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
        let more = tls.read_tls(stream)?;
        let state = tls.process_new_packets().map_err(std::io::Error::other)?;
        if more == 0 && state.plaintext_bytes_to_read() == 0 {
            return tls.reader().read(buffer);
        }
    }
}

fn config(ca: &Path) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("open the CA file") {
        roots.add(certificate.expect("a certificate")).expect("a CA certificate");
    }
    ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
}

/// Whether `line` is `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(tail, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(matches("250 *ok * qp *", "250 2.0.0 ok 1 qp 2"));
        assert!(matches("250 ok", "250 ok"));
        assert!(!matches("250 ok", "250 ok "));
        assert!(!matches("250 * qp *", "250 ok"));
    }
}
