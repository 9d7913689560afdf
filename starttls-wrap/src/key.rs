//! The process that holds the key during one handshake: parses it locked in, and signs one transcript.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use plumb::fds::{close_all_but, null_stdio, recv_packet, send_packet};
use plumb::log::Log;
use plumb::privs::Identity;
use plumb::sandbox::{Profile, confine};
use plumb::wait::after;
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
    /// Whether net is told where the pair is of no use; otherwise there will be another key process.
    pub last: bool,
}

/// Serves one handshake on the channel and returns the exit code: 0 where there was a key to use.
pub fn serve(key: Key, identity: &Identity, strict: bool, log: &mut Log) -> u8 {
    let pair = lock_in(&key, identity, strict).and_then(|()| KeyPair::read(key.default));
    let answer = match &pair {
        Ok(_) => ToNet::Ready,
        Err(_) if !key.last => return UNUSABLE,
        Err(error) => {
            log.line(format_args!("tls key unusable: {error}"));
            ToNet::Unavailable
        }
    };
    let said = send_packet(&key.channel, &answer.encode(), &[]);
    match (pair, said) {
        (Ok(default), Ok(())) => {
            let session = Session { pairs: vec![default], files: key.files, asked: Asked::Nothing };
            converse(&key.channel, session, log);
            0
        }
        (Err(_), _) => UNUSABLE,
        (Ok(_), Err(_)) => NOBODY_ASKS,
    }
}

/// Answers until net needs the key no more, ends, or the time is over.
fn converse(channel: &OwnedFd, mut session: Session, log: &mut Log) {
    let deadline = after(HANDSHAKE_TIME);
    while let Some(question) = receive(channel, deadline) {
        let answer = match question {
            Some(FromNet::Release) => return,
            Some(question) => session.answer(question, log),
            None => Err("a malformed message"),
        };
        let answer = answer.unwrap_or_else(|why| {
            log.line(format_args!("tls key refused {why}"));
            ToNet::Refused
        });
        if send_packet(channel, &answer.encode(), &[]).is_err() {
            return;
        }
    }
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

    /// Puts the pairs that are for this name in front of CERTFILE's: in their time first, then curves, else as they were found.
    fn look_up(&mut self, name: &[u8], log: &mut Log) {
        let (Some(files), Some(name)) = (self.files.take(), host_name(name)) else { return };
        let (mut pairs, mut troubles) = (Vec::new(), Vec::new());
        // Where files do not belong together, a renewal may be under way.
        while let Some(found) = ask_for_files(&files, &name) {
            let (read, unread): (Vec<_>, Vec<_>) =
                found.into_iter().map(KeyPair::read).partition(|pair| pair.is_ok());
            pairs = read.into_iter().flatten().filter(|pair| pair.is_for(&name)).collect();
            troubles = unread;
            if troubles.is_empty() {
                break;
            }
        }
        for error in troubles.into_iter().filter_map(Result::err) {
            log.line(format_args!("tls key for {name} unusable: {error}"));
        }
        // ACME clients leave the folders that are not renewed any more; a signature by RSA is twenty times the work.
        let by_rsa = |pair: &KeyPair| pair.algorithm() == SignatureAlgorithm::RSA;
        pairs.sort_by_key(|pair| (!pair.is_in_time(), by_rsa(pair)));
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

/// Asks the monitor for the files of a name; none where it has no others than before, or does not answer properly.
fn ask_for_files(files: &OwnedFd, name: &str) -> Option<Vec<Pair>> {
    let mut buffer = [0; 1];
    let deadline = Some(after(OPENING_TIME));
    send_packet(files, name.as_bytes(), &[]).ok()?;
    let (_one, descriptors) = recv_packet(files, &mut buffer, deadline).ok()??;
    if buffer != *FILES {
        return None;
    }
    let mut descriptors = descriptors.into_iter().map(File::from);
    let next = || Some(Pair { certificate: descriptors.next()?, key: descriptors.next()? });
    Some(std::iter::from_fn(next).collect())
}

/// What the monitor answers: the files come with it, certificates and keys by turns.
pub const FILES: &[u8; 1] = b"f";
/// What it answers where it has no others than before.
pub const NOTHING_ELSE: &[u8; 1] = b"n";
/// Exit code of a key process whose pair was of no use.
pub const UNUSABLE: u8 = 1;
/// Exit code of one that could not even say that it is there.
const NOBODY_ASKS: u8 = 2;
/// A handshake has 30 s (DESIGN 6.7); net ends first.
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Opening files takes no time, but on a dead disk.
const OPENING_TIME: Duration = Duration::from_secs(5);
/// The largest question: a list of schemes and a name.
const QUESTION_LIMIT: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    use plumb::fds::packetpair;
    use plumb::process::{Ended, Fork, exit_now, fork, wait};

    use crate::fixture::{p256, pair, rsa};

    const ECDSA: u16 = 0x0403;
    const RSA_PSS: u16 = 0x0804;
    const RSA_PKCS1: u16 = 0x0401;

    fn session(pem: &[u8]) -> Session {
        let pairs = vec![KeyPair::parse(pem, pem).unwrap()];
        Session { pairs, files: None, asked: Asked::Nothing }
    }

    fn certificate_verify() -> Vec<u8> {
        [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat()
    }

    fn key_exchange() -> Vec<u8> {
        [&[7; 64][..], &[3, 0, 29, 32], &[9; 32]].concat()
    }

    fn certify(scheme: u16) -> FromNet {
        FromNet::Certify { name: b"mx.test".to_vec(), schemes: vec![scheme] }
    }

    fn sign(scheme: u16, message: Vec<u8>) -> FromNet {
        FromNet::Sign { scheme, message }
    }

    /// One question by its letter: a certificate, a signature, one of a foreign text, and messages that are not for the key.
    fn question(letter: char) -> FromNet {
        match letter {
            'c' => certify(ECDSA),
            's' => sign(ECDSA, certificate_verify()),
            'f' => sign(ECDSA, b"mail from anybody".to_vec()),
            'p' => FromNet::Prepare,
            _ => FromNet::Secured(crate::channel::Facts::default()),
        }
    }

    fn letter(answer: std::result::Result<ToNet, &str>) -> char {
        match answer {
            Ok(ToNet::Certified { .. }) => 'C',
            Ok(ToNet::Signed(_)) => 'S',
            Ok(_) => '?',
            Err(_) => '-',
        }
    }

    // DESIGN 2: one signature a session; RFC 8446 4.1.4: a hello retry asks for a certificate again.
    #[test]
    fn questions_are_answered_in_their_order_and_once() {
        let (pem, mut log) = (p256(), Log::new("key", 0, ""));
        for (questions, answers) in [
            ("cs", "CS"),
            ("ccs", "CCS"),
            ("cccs", "CC-S"),
            ("css", "CS-"),
            ("csc", "CS-"),
            ("cscs", "CS--"),
            ("s", "-"),
            ("scs", "-CS"),
            ("cfs", "C--"),
            ("cpts", "C--S"),
            ("pt", "--"),
        ] {
            let mut session = session(&pem);
            let said: String =
                questions.chars().map(|q| letter(session.answer(question(q), &mut log))).collect();
            assert_eq!(said, answers, "{questions}");
        }
    }

    // DESIGN 2: it signs only what is a TLS server transcript, by a scheme that its key has.
    #[test]
    fn only_transcripts_are_signed_and_only_by_the_keys_own_schemes() {
        let (p256, rsa) = (session(&p256()), session(&rsa()));
        for (session, scheme, message, signed) in [
            (&p256, ECDSA, certificate_verify(), true),
            (&p256, ECDSA, key_exchange(), true),
            (&p256, RSA_PSS, certificate_verify(), false),
            (&p256, 0x0503, certificate_verify(), false),
            (&p256, ECDSA, vec![], false),
            (&p256, ECDSA, [certificate_verify(), vec![0]].concat(), false),
            (&p256, ECDSA, [vec![b' '], certificate_verify()].concat(), false),
            (&rsa, RSA_PSS, certificate_verify(), true),
            (&rsa, RSA_PKCS1, key_exchange(), true),
            (&rsa, RSA_PKCS1, certificate_verify(), false),
            (&rsa, ECDSA, key_exchange(), false),
            (&rsa, 0, key_exchange(), false),
        ] {
            let answer = session.sign(scheme, &message);
            assert_eq!(answer.is_ok(), signed, "{scheme:04x} {}", message.escape_ascii());
        }
    }

    #[test]
    fn a_certificate_is_shown_only_where_both_sides_know_a_scheme() {
        let pem = p256();
        let answer = session(&pem).certify(&[RSA_PSS, ECDSA, 0x1234]).unwrap();
        let ToNet::Certified { schemes, chain } = answer else { panic!("{answer:?}") };
        assert_eq!((schemes, chain.len()), (vec![ECDSA], 1));
        for offered in [&[RSA_PSS, RSA_PKCS1][..], &[]] {
            assert!(session(&pem).certify(offered).is_err(), "{offered:?}");
        }
    }

    /// A key process, the packets it is sent, and what it says to each.
    fn served(name: &str, pem: &[u8], packets: &[Vec<u8>]) -> (Vec<ToNet>, Ended) {
        let (near, far) = packetpair().unwrap();
        let files = pair(name, pem, pem);
        let identity = Identity::from_env("KEY", |_| None).unwrap();
        let pid = match fork().unwrap() {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                drop(near);
                let mut log = Log::new("key", 0, "");
                let key = Key { channel: far, default: files, files: None, last: true };
                exit_now(serve(key, &identity, false, &mut log));
            }
        };
        drop((far, files));
        let mut heard = Vec::new();
        let mut hear = || {
            let mut buffer = vec![0; MESSAGE_LIMIT];
            let packet = recv_packet(&near, &mut buffer, Some(after(HANDSHAKE_TIME))).unwrap();
            let answer = packet.map(|(length, _)| ToNet::decode(&buffer[..length]).unwrap());
            heard.extend(answer);
        };
        hear();
        for packet in packets {
            send_packet(&near, packet, &[]).unwrap();
            hear();
        }
        drop(near);
        (heard, wait(pid).unwrap())
    }

    // DESIGN 2: typed, bounded messages; what is none is refused, and the next one is answered as if it had not been.
    #[test]
    fn a_real_key_process_refuses_what_is_malformed_and_serves_on() {
        let certify = certify(ECDSA).encode();
        let sign = sign(ECDSA, certificate_verify()).encode();
        let packets = [
            b"?".to_vec(),
            vec![0; QUESTION_LIMIT],
            certify[..certify.len() - 1].to_vec(),
            certify,
            [&sign[..], b"x"].concat(),
            ToNet::Ready.encode(),
            FromNet::Prepare.encode(),
            sign.clone(),
            sign,
        ];
        let (heard, ended) = served("malformed", &p256(), &packets);
        let heard: Vec<char> = heard
            .into_iter()
            .map(|answer| match answer {
                ToNet::Ready => 'R',
                ToNet::Refused => '-',
                other => letter(Ok(other)),
            })
            .collect();
        assert_eq!(String::from_iter(heard), "R---C---S-");
        assert_eq!(ended, Ended::Code(0));
    }

    #[test]
    fn a_question_larger_than_any_ends_the_key_process() {
        let (heard, ended) = served("oversize", &p256(), &[vec![b'c'; QUESTION_LIMIT + 1]]);
        assert_eq!((heard, ended), (vec![ToNet::Ready], Ended::Code(0)));
    }
}
