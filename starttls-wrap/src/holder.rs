//! The key as net sees it: questions to a process that holds it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use plumb::fds::{recv_packet, send_packet};
use plumb::wait::after;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use crate::channel::{FromNet, MESSAGE_LIMIT, ToNet};
use crate::environment::hex;

/// The way to whoever holds the key.
#[derive(Debug)]
pub struct Holder {
    channel: OwnedFd,
    fingerprint: OnceLock<String>,
    patience: Duration,
    out_of_step: AtomicBool,
}

impl Holder {
    /// Speaks to the monitor and its key process by this channel.
    pub fn new(channel: OwnedFd) -> Holder {
        Holder {
            channel,
            fingerprint: OnceLock::new(),
            patience: ANSWER_TIME,
            out_of_step: AtomicBool::new(false),
        }
    }

    /// The channel, to be watched for its end.
    pub fn watch(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Whether an answer was missed: it may come at any time.
    pub fn is_out_of_step(&self) -> bool {
        self.out_of_step.load(Ordering::Relaxed)
    }

    /// The SHA-256 of the certificate that was shown, in hexadecimal, or nothing yet.
    pub fn fingerprint(&self) -> &str {
        self.fingerprint.get().map_or("", String::as_str)
    }

    /// Says something that is not answered; a monitor that is gone is noticed elsewhere.
    pub fn tell(&self, message: &FromNet) -> bool {
        send_packet(&self.channel, &message.encode(), &[]).is_ok()
    }

    /// Asks, and waits for the answer; none if there is no proper one in time, and none ever after.
    pub fn ask(&self, question: &FromNet) -> Option<ToNet> {
        // An answer that comes too late would be taken for the next one's.
        if self.is_out_of_step() || !self.tell(question) {
            return None;
        }
        let answer = self.answer();
        self.out_of_step.store(answer.is_none(), Ordering::Relaxed);
        answer
    }

    fn answer(&self) -> Option<ToNet> {
        let mut buffer = vec![0; MESSAGE_LIMIT];
        let deadline = Some(after(self.patience));
        let (length, _none) = recv_packet(&self.channel, &mut buffer, deadline).ok()??;
        ToNet::decode(buffer.get(..length)?)
    }
}

/// Lets the holder choose the certificate.
#[derive(Debug)]
pub struct Resolver(pub Arc<Holder>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let question = FromNet::Certify {
            name: hello.server_name().unwrap_or_default().as_bytes().to_vec(),
            schemes: hello.signature_schemes().iter().map(|&scheme| scheme.into()).collect(),
        };
        let Some(ToNet::Certified { schemes, chain }) = self.0.ask(&question) else { return None };
        let shown = ring::digest::digest(&ring::digest::SHA256, chain.first()?);
        // A hello retry asks for the same certificate again.
        let _ = self.0.fingerprint.set(hex(shown.as_ref()));
        let schemes = schemes.into_iter().map(SignatureScheme::from).collect();
        let key = RemoteKey { holder: Arc::clone(&self.0), schemes };
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Some(Arc::new(CertifiedKey::new(chain, Arc::new(key))))
    }
}

/// A key in another process.
#[derive(Debug)]
struct RemoteKey {
    holder: Arc<Holder>,
    schemes: Vec<SignatureScheme>,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { holder: Arc::clone(&self.holder), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.schemes.first() {
            Some(
                SignatureScheme::ECDSA_NISTP256_SHA256
                | SignatureScheme::ECDSA_NISTP384_SHA384
                | SignatureScheme::ECDSA_NISTP521_SHA512,
            ) => SignatureAlgorithm::ECDSA,
            Some(SignatureScheme::ED25519) => SignatureAlgorithm::ED25519,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    holder: Arc<Holder>,
    scheme: SignatureScheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let question = FromNet::Sign { scheme: self.scheme.into(), message: message.to_vec() };
        match self.holder.ask(&question) {
            Some(ToNet::Signed(signature)) => Ok(signature),
            _ => Err(Error::General("the key process refused to sign".to_owned())),
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The longest that a signature may take, on the slowest machine under load.
const ANSWER_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use plumb::fds::packetpair;

    #[test]
    fn an_answer_that_comes_too_late_is_nobodys() {
        let (near, far) = packetpair().unwrap();
        let mut holder = Holder::new(near);
        let answer = || send_packet(&far, &ToNet::Ready.encode(), &[]).unwrap();
        answer();
        assert_eq!(holder.ask(&FromNet::Prepare), Some(ToNet::Ready));
        holder.patience = Duration::from_millis(1);
        assert_eq!(holder.ask(&FromNet::Prepare), None);
        assert!(holder.is_out_of_step());
        answer();
        assert_eq!(holder.ask(&FromNet::Prepare), None);
    }
}
