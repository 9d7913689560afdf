//! Record and attempt to verdict, with the same work whoever asks.

use crate::cram::Context;
use crate::facts::{Decoy, Facts};
use crate::password::Unable;
use crate::record::{Record, Refusal};
use crate::scram::{ITERATIONS, Verifier};
use crate::secret::Secret;

/// What a client shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Proof {
    /// The password itself.
    Password(Secret),
    /// CRAM-MD5: a digest of a challenge.
    Cram {
        /// What the client was given.
        challenge: Vec<u8>,
        /// What it made of it.
        digest: Vec<u8>,
    },
}

/// One computation that an attempt costs.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// A hash string against a password.
    Hash(&'a str, &'a [u8]),
    /// A SCRAM verifier against a password.
    Scram(&'a Verifier, &'a [u8]),
    /// A CRAM-MD5 context against challenge and digest.
    Cram(&'a Context, &'a [u8], &'a [u8]),
}

/// Why an attempt failed; for the log alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no such login.
    UnknownUser,
    /// The proof does not fit.
    WrongPassword,
    /// The account's time is over.
    Expired,
    /// The account is switched off.
    Disabled,
    /// A checkpassword program has refused it, and does not say why.
    RefusedByProgram,
}

/// Computes it, and says whether both fit.
pub fn compute(work: Work<'_>) -> Result<bool, Unable> {
    match work {
        Work::Hash(hash, password) => crate::password::matches(hash, password),
        Work::Scram(verifier, password) => Ok(verifier.matches(password)),
        Work::Cram(context, challenge, digest) => Ok(context.answers(challenge, digest)),
    }
}

/// Judges an attempt at `now` seconds of Unix time. Whoever asks, one hash is computed before anything is refused.
pub fn judge(
    login: &[u8],
    proof: &Proof,
    record: Option<&Record>,
    facts: &Facts,
    now: u64,
    compute: impl FnOnce(Work<'_>) -> Result<bool, Unable>,
) -> Result<Result<(), Reason>, Unable> {
    let nobody = verifier(None, facts, login);
    let no_password = Context::of(b"");
    let (own, work) = match proof {
        Proof::Cram { challenge, digest } => {
            let context = record.and_then(|record| record.cram.as_ref());
            (context.is_some(), Work::Cram(context.unwrap_or(&no_password), challenge, digest))
        }
        Proof::Password(password) => match (hash(record), scram(record), &facts.decoy) {
            (Some(hash), ..) => (true, Work::Hash(hash, password)),
            (None, Some(scram), _) => (true, Work::Scram(scram, password)),
            (None, None, Decoy::Hash(hash)) => {
                (false, Work::Hash(hash.text().unwrap_or_default(), password))
            }
            (None, None, Decoy::Scram(_)) => (false, Work::Scram(&nobody, password)),
        },
    };
    let right = compute(work)? && own;
    Ok(if right { admit(record, now) } else { Err(wrong(record)) })
}

/// What SCRAM goes on with: the record's verifier, or one that nothing matches.
pub fn verifier(record: Option<&Record>, facts: &Facts, login: &[u8]) -> Verifier {
    let iterations = match facts.decoy {
        Decoy::Scram(iterations) => iterations,
        Decoy::Hash(_) => facts.scram.unwrap_or(ITERATIONS),
    };
    let own = scram(record).cloned();
    own.unwrap_or_else(|| Verifier::of_nobody(&facts.secret, login, iterations))
}

/// Why a wrong proof is refused.
pub fn wrong(record: Option<&Record>) -> Reason {
    if record.is_some() { Reason::WrongPassword } else { Reason::UnknownUser }
}

/// Whether the account may be used, once its proof is right.
pub fn admit(record: Option<&Record>, now: u64) -> Result<(), Reason> {
    match record.ok_or(Reason::UnknownUser)?.refused(now) {
        Some(Refusal::Expired) => Err(Reason::Expired),
        Some(Refusal::Disabled) => Err(Reason::Disabled),
        None => Ok(()),
    }
}

/// Whether a login may be looked up at all: RFC 4616 2 asks for 255 octets, and it goes into lines and variables.
pub fn is_login(login: &[u8]) -> bool {
    (1..=LOGIN_MAX).contains(&login.len()) && !login.iter().any(u8::is_ascii_control)
}

fn hash(record: Option<&Record>) -> Option<&str> {
    record?.password.as_ref()?.text()
}

fn scram(record: Option<&Record>) -> Option<&Verifier> {
    record?.scram.as_ref()
}

const LOGIN_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { secret: Secret::default(), decoy: Decoy::default(), scram: None, cram: true }
    }

    fn record(more: &str) -> Record {
        let cram = Context::of(b"secret").text();
        let text = format!(
            "v=1\npw=$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA\ncram-md5={cram}\n{more}"
        );
        Record::parse(text.as_bytes()).unwrap()
    }

    /// The verdict, and the work that it took.
    fn judged(
        record: Option<&Record>,
        facts: &Facts,
        proof: &Proof,
        fits: bool,
    ) -> (Result<(), Reason>, Vec<String>) {
        let mut works = Vec::new();
        let verdict = judge(b"user", proof, record, facts, 1_000, |work| {
            works.push(match work {
                Work::Hash(hash, _) => crate::cost::work(hash).to_owned(),
                Work::Scram(verifier, _) => format!("scram:{}", verifier.iterations()),
                Work::Cram(..) => "cram-md5".to_owned(),
            });
            Ok(fits)
        });
        (verdict.unwrap(), works)
    }

    // RFC 4954 4, 9: an answer must not tell whether a user exists; nor may the time it takes.
    #[test]
    fn every_attempt_takes_the_same_one_hash() {
        let password = Proof::Password(b"x"[..].into());
        let cram = Proof::Cram { challenge: b"<a@b>".to_vec(), digest: b"x".to_vec() };
        for (proof, work) in [(&password, "$argon2id$v=19$m=19456,t=2,p=1"), (&cram, "cram-md5")] {
            for (record, fits, verdict) in [
                (Some(record("")), true, Ok(())),
                (Some(record("")), false, Err(Reason::WrongPassword)),
                (Some(record("disabled=1\n")), true, Err(Reason::Disabled)),
                (Some(record("disabled=1\n")), false, Err(Reason::WrongPassword)),
                (Some(record("expires=1000\n")), true, Err(Reason::Expired)),
                (Some(record("expires=1001\n")), true, Ok(())),
                (Some(record("expires=1000\n")), false, Err(Reason::WrongPassword)),
                (None, true, Err(Reason::UnknownUser)),
                (None, false, Err(Reason::UnknownUser)),
            ] {
                let judged = judged(record.as_ref(), &facts(), proof, fits);
                assert_eq!(judged, (verdict, vec![work.to_owned()]), "{record:?}");
            }
        }
    }

    #[test]
    fn a_record_without_a_hash_is_compared_by_its_verifier() {
        let verifier = Verifier::new(b"secret", b"salt", 4096);
        let record = Record { scram: Some(verifier), ..Record::default() };
        let password = Proof::Password(b"secret"[..].into());
        let scram = Facts { decoy: Decoy::Scram(4096), ..facts() };
        let work = vec!["scram:4096".to_owned()];
        assert_eq!(judged(Some(&record), &scram, &password, true), (Ok(()), work.clone()));
        assert_eq!(judged(None, &scram, &password, true), (Err(Reason::UnknownUser), work));
    }

    // CRAM-MD5 is each record's own choice.
    #[test]
    fn a_record_that_cannot_do_it_is_refused_whatever_fits() {
        let record = Record { password: Some(b"$6$a$b"[..].into()), ..Record::default() };
        let cram = Proof::Cram { challenge: b"<a@b>".to_vec(), digest: b"x".to_vec() };
        assert_eq!(judged(Some(&record), &facts(), &cram, true).0, Err(Reason::WrongPassword));
        let empty = Record::default();
        let password = Proof::Password(b"x"[..].into());
        assert_eq!(judged(Some(&empty), &facts(), &password, true).0, Err(Reason::WrongPassword));
    }

    #[test]
    fn the_real_computations() {
        let judge = |proof| judge(b"user", &proof, Some(&record("")), &facts(), 0, compute);
        let digest = |password: &[u8]| {
            use hmac::{Hmac, KeyInit, Mac};
            let mut hmac = Hmac::<md5::Md5>::new_from_slice(password).unwrap();
            hmac.update(b"<a@b>");
            crate::text::hex(&hmac.finalize().into_bytes()).into_bytes()
        };
        let cram = |digest| Proof::Cram { challenge: b"<a@b>".to_vec(), digest };
        assert_eq!(judge(cram(digest(b"secret"))), Ok(Ok(())));
        assert_eq!(judge(cram(digest(b"secres"))), Ok(Err(Reason::WrongPassword)));
        // A salt of four bytes is no argon2 salt.
        assert_eq!(judge(Proof::Password(b"secret"[..].into())), Err(Unable::Unsupported));
    }

    #[test]
    fn logins() {
        for good in [&b"u"[..], b"a b", b"\xc3\xa9", &[b'x'; 255]] {
            assert!(is_login(good));
        }
        for bad in [&b""[..], b"a\nb", b"a\0", b"\x7f", &[b'x'; 256]] {
            assert!(!is_login(bad));
        }
    }
}
