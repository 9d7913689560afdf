//! The wrap between client and program: in clear alone, inside TLS behind the cipher.

use plumb::middle::{Middle, Outbox, Patience, Side};

use crate::tls::{Failure, Tls};
use crate::wrap::Wrap;

/// A middle that has something for the log.
pub trait Noted {
    /// Takes it.
    fn notes(&mut self) -> Vec<String>;
}

/// The session in clear: the wrap alone.
pub struct Clear(pub Wrap);

impl Noted for Clear {
    fn notes(&mut self) -> Vec<String> {
        self.0.take_notes()
    }
}

impl Middle for Clear {
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox) {
        match from {
            Side::Client => self.0.client_says(bytes, out),
            Side::Server => self.0.program_says(bytes, out),
        }
    }
    fn eof(&mut self, from: Side, out: &mut Outbox) {
        self.0.ended(from, out);
    }
    fn accepts(&self, from: Side) -> bool {
        self.0.accepts(from)
    }
    fn patience(&self) -> Patience {
        self.0.patience()
    }
    fn expired(&mut self, out: &mut Outbox) {
        self.0.expired(out);
    }
    fn alarmed(&mut self, out: &mut Outbox) {
        self.0.terminate(out);
    }
}

/// The session inside TLS: the wrap behind the cipher.
pub struct Inside {
    tls: Tls,
    wrap: Wrap,
    plain: Outbox,
    failure: Option<Failure>,
}

impl Inside {
    /// A session whose handshake is done.
    pub fn new(tls: Tls, wrap: Wrap) -> Inside {
        Inside { tls, wrap, plain: Outbox::default(), failure: None }
    }

    /// Why TLS ended before its time, once.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// What the client said, decrypted.
    pub fn client_says(&mut self, plain: &[u8], out: &mut Outbox) {
        self.wrap.client_says(plain, &mut self.plain);
        if self.failure.is_some() {
            self.wrap.end(b"", &mut self.plain);
        } else if self.tls.peer_has_closed() {
            self.wrap.ended(Side::Client, &mut self.plain);
        }
        self.seal(out);
    }

    /// Encrypts what the wrap has said, and passes its other wishes on.
    fn seal(&mut self, out: &mut Outbox) {
        self.tls.send(&self.plain.client);
        self.plain.client.clear();
        out.server.append(&mut self.plain.server);
        out.hang_up |= self.plain.hang_up;
        if self.plain.stop && !out.stop {
            out.stop = true;
            if self.failure.is_none() {
                self.tls.close();
            }
        }
        self.tls.outgoing(&mut out.client);
    }
}

impl Noted for Inside {
    fn notes(&mut self) -> Vec<String> {
        self.wrap.take_notes()
    }
}

impl Middle for Inside {
    fn bytes(&mut self, from: Side, bytes: &[u8], out: &mut Outbox) {
        match from {
            Side::Server => {
                self.wrap.program_says(bytes, &mut self.plain);
                self.seal(out);
            }
            Side::Client => {
                let mut plain = Vec::new();
                self.failure = self.tls.receive(bytes, &mut plain).err();
                self.client_says(&plain, out);
            }
        }
    }
    fn eof(&mut self, from: Side, out: &mut Outbox) {
        self.wrap.ended(from, &mut self.plain);
        self.seal(out);
    }
    fn accepts(&self, from: Side) -> bool {
        self.wrap.accepts(from)
    }
    fn patience(&self) -> Patience {
        self.wrap.patience()
    }
    fn expired(&mut self, out: &mut Outbox) {
        self.wrap.expired(&mut self.plain);
        self.seal(out);
    }
    fn alarmed(&mut self, out: &mut Outbox) {
        self.wrap.terminate(&mut self.plain);
        self.seal(out);
    }
}
