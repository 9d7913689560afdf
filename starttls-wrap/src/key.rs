//! The process that holds the key during one handshake: parses it locked in, and signs one transcript.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use plumb::fds::{close_all_but, null_stdio, recv_packet, send_packet};
use plumb::log::Log;
use plumb::privs::Identity;
use plumb::relay::after;
use plumb::sandbox::{Profile, confine};
use plumb::{Doing, Error, Result};
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use zeroize::{Zeroize, Zeroizing};

use crate::channel::{FromNet, MESSAGE_LIMIT, ToNet};
use crate::tls::provider;
use crate::transcript::is_server_transcript;

/// A certificate file and a key file, opened and not yet read.
#[derive(Debug)]
pub struct Files {
    /// CERTFILE: the chain, and perhaps the key.
    pub certificate: File,
    /// KEYFILE.
    pub key: File,
}

/// Serves one handshake on the channel and returns the exit code.
pub fn serve(
    channel: OwnedFd,
    files: Files,
    identity: &Identity,
    strict: bool,
    log: &mut Log,
) -> u8 {
    let pair = lock_in(&channel, &files, identity, strict).and_then(|()| KeyPair::read(files));
    let answer = match &pair {
        Ok(_) => ToNet::Ready,
        Err(error) => {
            log.line(format_args!("tls key unusable: {error}"));
            ToNet::Unavailable
        }
    };
    let said = send_packet(&channel, &answer.encode(), &[]);
    match (pair, said) {
        (Ok(pair), Ok(())) => converse(&channel, pair, log),
        _ => 0,
    }
}

/// Answers until net needs the key no more, ends, or the time is over.
fn converse(channel: &OwnedFd, pair: KeyPair, log: &mut Log) -> u8 {
    let deadline = after(HANDSHAKE_TIME);
    let mut session = Session { pair, asked: Asked::Nothing };
    while let Some(question) = receive(channel, deadline) {
        let answer = match question {
            Some(FromNet::Release) => return 0,
            Some(question) => session.answer(question),
            None => Err("a malformed message"),
        };
        let answer = answer.unwrap_or_else(|why| {
            log.line(format_args!("tls key refused {why}"));
            ToNet::Refused
        });
        if send_packet(channel, &answer.encode(), &[]).is_err() {
            return 0;
        }
    }
    0
}

/// The next question: none at the end, or one that is no question.
fn receive(channel: &OwnedFd, deadline: Instant) -> Option<Option<FromNet>> {
    let mut buffer = vec![0; QUESTION_LIMIT];
    match recv_packet(channel, &mut buffer, Some(deadline)) {
        Ok(Some((length, _none))) => Some(buffer.get(..length).and_then(FromNet::decode)),
        Ok(None) | Err(_) => None,
    }
}

fn lock_in(channel: &OwnedFd, files: &Files, identity: &Identity, strict: bool) -> Result<()> {
    null_stdio(&[0, 1]).doing("open /dev/null")?;
    let keep = [0, 1, 2, channel.as_raw_fd(), files.certificate.as_raw_fd(), files.key.as_raw_fd()];
    close_all_but(&keep).doing("close descriptors")?;
    confine(identity, Profile::reader(), strict).map(drop)
}

/// What one handshake may ask for, in this order, and each thing once.
struct Session {
    pair: KeyPair,
    asked: Asked,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    Certificate,
    /// After a hello retry (RFC 8446 4.1.4).
    CertificateAgain,
    Signature,
}

impl Session {
    fn answer(&mut self, question: FromNet) -> std::result::Result<ToNet, &'static str> {
        match question {
            FromNet::Certify { schemes, .. } => {
                self.asked = match self.asked {
                    Asked::Nothing => Asked::Certificate,
                    Asked::Certificate => Asked::CertificateAgain,
                    _ => return Err("a certificate out of turn"),
                };
                self.pair.certify(&schemes)
            }
            FromNet::Sign { scheme, message } => {
                if !matches!(self.asked, Asked::Certificate | Asked::CertificateAgain) {
                    return Err("a signature out of turn");
                }
                self.asked = Asked::Signature;
                self.pair.sign(scheme, &message)
            }
            FromNet::Prepare | FromNet::Secured(_) | FromNet::Release => Err("a foreign message"),
        }
    }
}

/// A key and the chain that it belongs to.
#[derive(Debug)]
pub struct KeyPair {
    certified: CertifiedKey,
}

impl KeyPair {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn read(files: Files) -> Result<KeyPair> {
        let chain = read(files.certificate, "the certificate file")?;
        let mut key = read(files.key, "the key file")?;
        let pair = KeyPair::parse(&chain, &key);
        key.zeroize();
        pair
    }

    fn parse(chain: &[u8], key: &[u8]) -> Result<KeyPair> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::temporary(format!("the certificate file: {error}")))?;
        if chain.is_empty() {
            return Err(Error::temporary("the certificate file: no certificate"));
        }
        let mut key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::temporary(format!("the key file: {error}")))?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key);
        key.zeroize();
        let signing =
            signing.map_err(|error| Error::temporary(format!("the key file: {error}")))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => Ok(KeyPair { certified }),
            Err(error) => Err(Error::temporary(format!("key and certificate: {error}"))),
        }
    }

    fn certify(&self, offered: &[u16]) -> std::result::Result<ToNet, &'static str> {
        let schemes: Vec<u16> = provider()
            .signature_verification_algorithms
            .supported_schemes()
            .into_iter()
            .filter(|&scheme| offered.contains(&scheme.into()) && self.signs_by(scheme))
            .map(u16::from)
            .collect();
        if schemes.is_empty() {
            return Err("a handshake without a common signature scheme");
        }
        let chain = self.certified.cert.iter().map(|der| der.to_vec()).collect();
        let answer = ToNet::Certified { schemes, chain };
        (answer.encode().len() <= MESSAGE_LIMIT).then_some(answer).ok_or("a chain too long to send")
    }

    fn signs_by(&self, scheme: SignatureScheme) -> bool {
        self.signing_key().choose_scheme(&[scheme]).is_some()
    }

    fn sign(&self, scheme: u16, message: &[u8]) -> std::result::Result<ToNet, &'static str> {
        if !is_server_transcript(scheme, message) {
            return Err("what is no transcript of a server");
        }
        let signer = self
            .signing_key()
            .choose_scheme(&[SignatureScheme::from(scheme)])
            .ok_or("a scheme that the key has not")?;
        signer.sign(message).map(ToNet::Signed).map_err(|_| "what it could not sign")
    }

    fn signing_key(&self) -> &dyn SigningKey {
        self.certified.key.as_ref()
    }
}

fn read(file: File, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    // One allocation, so that no copy of a key is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LIMIT));
    let limit = u64::try_from(FILE_LIMIT).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).doing(format!("read {what}"))?;
    if bytes.len() >= FILE_LIMIT {
        return Err(Error::temporary(format!("{what} is too large")));
    }
    Ok(bytes)
}

/// A handshake has 30 s (DESIGN 6.7); net ends first.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// The largest question: a list of schemes and a name.
const QUESTION_LIMIT: usize = 1024;
/// A chain of ten large certificates.
const FILE_LIMIT: usize = 128 * 1024;

#[cfg(test)]
mod tests {}
