//! The process that holds the key during one handshake: parses it locked in, and signs one transcript.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use plumb::fds::{close_all_but, null_stdio, recv_packet, send_packet};
use plumb::log::Log;
use plumb::privs::Identity;
use plumb::relay::after;
use plumb::sandbox::{Profile, confine};
use plumb::{Doing, Result};
use rustls::SignatureAlgorithm;

use crate::certs::{Pair, host_name};
use crate::channel::{FromNet, MESSAGE_LIMIT, ToNet};
use crate::key_pair::KeyPair;
use crate::transcript::is_server_transcript;

/// What the key process is given.
#[derive(Debug)]
pub struct Key {
    /// The channel whose other end net holds.
    pub channel: OwnedFd,
    /// CERTFILE and KEYFILE.
    pub default: Pair,
    /// Where the files for a name can be asked for; none without CERTDIR.
    pub files: Option<OwnedFd>,
}

/// Serves one handshake on the channel and returns the exit code.
pub fn serve(key: Key, identity: &Identity, strict: bool, log: &mut Log) -> u8 {
    let pair = lock_in(&key, identity, strict).and_then(|()| KeyPair::read(key.default));
    let answer = match &pair {
        Ok(_) => ToNet::Ready,
        Err(error) => {
            log.line(format_args!("tls key unusable: {error}"));
            ToNet::Unavailable
        }
    };
    let said = send_packet(&key.channel, &answer.encode(), &[]);
    match (pair, said) {
        (Ok(default), Ok(())) => {
            let session = Session { pairs: vec![default], files: key.files, asked: Asked::Nothing };
            converse(&key.channel, session, log)
        }
        _ => UNAVAILABLE,
    }
}

/// Answers until net needs the key no more, ends, or the time is over.
fn converse(channel: &OwnedFd, mut session: Session, log: &mut Log) -> u8 {
    let deadline = after(HANDSHAKE_TIME);
    while let Some(question) = receive(channel, deadline) {
        let answer = match question {
            Some(FromNet::Release) => return 0,
            Some(question) => session.answer(question, log),
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

fn lock_in(key: &Key, identity: &Identity, strict: bool) -> Result<()> {
    null_stdio(&[0, 1]).doing("open /dev/null")?;
    let mut keep = vec![0, 1, 2, key.channel.as_raw_fd()];
    keep.extend([key.default.certificate.as_raw_fd(), key.default.key.as_raw_fd()]);
    keep.extend(key.files.iter().map(AsRawFd::as_raw_fd));
    close_all_but(&keep).doing("close descriptors")?;
    confine(identity, Profile::reader(), strict).map(drop)
}

/// What one handshake may ask for, in this order, and each thing once.
struct Session {
    /// The pair for this handshake first, once there is one; CERTFILE's last.
    pairs: Vec<KeyPair>,
    files: Option<OwnedFd>,
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
    fn answer(
        &mut self,
        question: FromNet,
        log: &mut Log,
    ) -> std::result::Result<ToNet, &'static str> {
        match question {
            FromNet::Certify { name, schemes } => {
                self.asked = match self.asked {
                    Asked::Nothing => Asked::Certificate,
                    Asked::Certificate => Asked::CertificateAgain,
                    _ => return Err("a certificate out of turn"),
                };
                self.look_up(&name, log);
                self.certify(&schemes)
            }
            FromNet::Sign { scheme, message } => {
                if !matches!(self.asked, Asked::Certificate | Asked::CertificateAgain) {
                    return Err("a signature out of turn");
                }
                self.asked = Asked::Signature;
                self.sign(scheme, &message)
            }
            FromNet::Prepare | FromNet::Secured(_) | FromNet::Release => Err("a foreign message"),
        }
    }

    /// Puts the pairs that are for this name in front of CERTFILE's: curves first, else as they were found.
    fn look_up(&mut self, name: &[u8], log: &mut Log) {
        let (Some(files), Some(name)) = (self.files.take(), host_name(name)) else { return };
        let mut pairs = Vec::new();
        for pair in ask_for_files(&files, &name) {
            match KeyPair::read(pair) {
                Ok(pair) if pair.is_for(&name) => pairs.push(pair),
                Ok(_) => {}
                Err(error) => log.line(format_args!("tls key for {name} unusable: {error}")),
            }
        }
        // A signature by RSA is twenty times the work.
        pairs.sort_by_key(|pair| pair.algorithm() == SignatureAlgorithm::RSA);
        pairs.append(&mut self.pairs);
        self.pairs = pairs;
    }

    /// Settles on the first pair that shares a scheme with the client.
    fn certify(&mut self, offered: &[u16]) -> std::result::Result<ToNet, &'static str> {
        let usable = self.pairs.iter().position(|pair| !pair.schemes(offered).is_empty());
        let usable = usable.ok_or("a handshake without a common signature scheme")?;
        self.pairs.drain(..usable);
        let pair = self.pairs.first().ok_or("a handshake without a key")?;
        let answer = ToNet::Certified { schemes: pair.schemes(offered), chain: pair.chain() };
        (answer.encode().len() <= MESSAGE_LIMIT).then_some(answer).ok_or("a chain too long to send")
    }

    fn sign(&self, scheme: u16, message: &[u8]) -> std::result::Result<ToNet, &'static str> {
        if !is_server_transcript(scheme, message) {
            return Err("what is no transcript of a server");
        }
        let signature = self.pairs.first().and_then(|pair| pair.sign(scheme, message));
        signature.map(ToNet::Signed).ok_or("a scheme that the key has not")
    }
}

/// Asks the monitor for the files of a name; what it does not answer properly is nothing.
fn ask_for_files(files: &OwnedFd, name: &str) -> Vec<Pair> {
    let mut buffer = [0; 1];
    let deadline = Some(after(OPENING_TIME));
    let answer = send_packet(files, name.as_bytes(), &[])
        .and_then(|()| recv_packet(files, &mut buffer, deadline));
    let Ok(Some((_, descriptors))) = answer else { return Vec::new() };
    let mut descriptors = descriptors.into_iter().map(File::from);
    let next = || Some(Pair { certificate: descriptors.next()?, key: descriptors.next()? });
    std::iter::from_fn(next).collect()
}

/// A handshake has 30 s (DESIGN 6.7); net ends first.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Opening files takes no time, but on a dead disk.
const OPENING_TIME: Duration = Duration::from_secs(5);
/// Exit code of a key process that was of no use.
const UNAVAILABLE: u8 = 1;
/// The largest question: a list of schemes and a name.
const QUESTION_LIMIT: usize = 1024;
#[cfg(test)]
mod tests {}
