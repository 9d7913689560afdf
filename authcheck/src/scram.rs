//! The server's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 9266).

use std::fmt;
use std::ops::RangeInclusive;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::text;

/// What is stored of a password: enough to verify a client, not enough to be one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

type Key = Zeroizing<[u8; KEY]>;

/// What the name of the mechanism and the connection say about channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel<'a> {
    /// SCRAM-SHA-256 where there is nothing to bind to.
    None,
    /// SCRAM-SHA-256 where SCRAM-SHA-256-PLUS was offered.
    Unused,
    /// SCRAM-SHA-256-PLUS, and the tls-exporter of this connection (RFC 9266).
    Bound(&'a Exporter),
}

/// The 32 bytes that both ends of a TLS connection can compute, and nobody between them.
pub type Exporter = [u8; 32];

/// Why the exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is not what RFC 5802 7 says it is.
    Malformed,
    /// It asks for what cannot be granted.
    Refused,
}

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// Who the client says it is.
    pub login: Vec<u8>,
    nonce: Vec<u8>,
    bare: Vec<u8>,
    /// What the final message must repeat as `c=`.
    binding: String,
}

/// The server's first message, and what the answer to it must prove.
#[derive(Debug)]
pub struct Challenge {
    /// The message for the client.
    pub message: Vec<u8>,
    first: ClientFirst,
    nonce: Vec<u8>,
    verifier: Verifier,
}

impl Verifier {
    /// Derives a verifier from a password (RFC 5802 3).
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Zeroizing::new([0; KEY]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut *salted);
        let stored_key = sha256(&hmac(&*salted, &[b"Client Key"]));
        let server_key = hmac(&*salted, &[b"Server Key"]);
        Self { iterations, salt: salt.to_vec(), stored_key, server_key }
    }

    /// The verifier of someone who does not exist: always the same salt for the same login (RFC 5802 9: enumeration), matched by nothing.
    pub fn of_nobody(secret: &[u8], login: &[u8], iterations: u32) -> Self {
        let salt = hmac(secret, &[b"salt ", login]);
        let (stored_key, server_key) =
            (hmac(secret, &[b"stored ", login]), hmac(secret, &[b"server ", login]));
        let salt = salt.first_chunk::<SALT>().map(|salt| salt.to_vec()).unwrap_or_default();
        Self { iterations, salt, stored_key, server_key }
    }

    /// Reads `ITERATIONS,SALT,STOREDKEY,SERVERKEY`, or RFC 5803's `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.
    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<_> = match text.strip_prefix("SCRAM-SHA-256$") {
            Some(rest) => rest.split([':', '$']).collect(),
            None => text.split(',').collect(),
        };
        let [iterations, salt, stored_key, server_key] = fields[..] else { return None };
        let iterations = iterations.parse().ok().filter(|count| GRANTED.contains(count))?;
        let salt = text::decode(salt.as_bytes()).filter(|salt| !salt.is_empty())?.to_vec();
        Some(Self {
            iterations,
            salt,
            stored_key: key(stored_key.as_bytes())?,
            server_key: key(server_key.as_bytes())?,
        })
    }

    /// What parse() reads.
    pub fn text(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &*self.stored_key, &*self.server_key].map(text::encode);
        format!("{},{salt},{stored},{server}", self.iterations)
    }

    /// How often the password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Whether a password that came in clear is the one.
    pub fn matches(&self, password: &[u8]) -> bool {
        let other = Self::new(password, &self.salt, self.iterations);
        self.stored_key.ct_eq(&*other.stored_key).into()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Verifier")
    }
}

impl ClientFirst {
    /// Reads `gs2-cbind-flag,[authzid],n=login,r=nonce` (RFC 5802 7).
    pub fn parse(message: &[u8], channel: Channel<'_>) -> Result<Self, Fault> {
        let mut parts = message.splitn(3, |byte| *byte == b',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Malformed);
        };
        let mut attributes = bare.split(|byte| *byte == b',');
        let mut next = |name: u8| attribute(attributes.next(), name).ok_or(Fault::Malformed);
        // RFC 5802 5.1: m= announces an extension that a server without it must not pass over; attribute() finds no n= then.
        let login = unescaped(next(b'n')?).ok_or(Fault::Malformed)?;
        let nonce = next(b'r')?.to_vec();
        if nonce.is_empty() || !nonce.iter().all(u8::is_ascii_graphic) {
            return Err(Fault::Malformed);
        }
        check_flag(flag, channel)?;
        check_authzid(authzid, &login)?;
        let header = message.len().saturating_sub(bare.len());
        let mut bound = message.get(..header).unwrap_or_default().to_vec();
        if let Channel::Bound(exporter) = channel {
            bound.extend_from_slice(exporter);
        }
        Ok(Self { login, nonce, bare: bare.to_vec(), binding: text::encode(&bound) })
    }

    /// The challenge for a client whose verifier, true or of nobody, has been looked up.
    pub fn challenge(self, verifier: Verifier, random: &[u8; NONCE]) -> Challenge {
        let nonce = [&self.nonce[..], text::encode(random).as_bytes()].concat();
        let (salt, count) = (text::encode(&verifier.salt), verifier.iterations);
        let message = [b"r=", &nonce[..], format!(",s={salt},i={count}").as_bytes()].concat();
        Challenge { message, first: self, nonce, verifier }
    }
}

impl Challenge {
    /// Checks the client's final message; gives the login and the server's final message, which proves that it knows the verifier.
    pub fn finish(self, message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Fault> {
        let at = message.windows(PROOF.len()).rposition(|window| window == PROOF);
        let (without_proof, proof) =
            at.and_then(|at| message.split_at_checked(at)).ok_or(Fault::Malformed)?;
        let proof = proof.strip_prefix(PROOF).and_then(key).ok_or(Fault::Malformed)?;
        let mut attributes = without_proof.split(|byte| *byte == b',');
        let mut next = |name: u8| attribute(attributes.next(), name).ok_or(Fault::Malformed);
        let (binding, nonce) = (next(b'c')?, next(b'r')?);
        let bound = binding == self.first.binding.as_bytes();
        let ours = nonce == self.nonce;
        let parts = [&self.first.bare[..], b",", &self.message, b",", without_proof];
        let signature = hmac(&*self.verifier.stored_key, &parts);
        let mut client_key = proof;
        client_key.iter_mut().zip(signature.iter()).for_each(|(key, byte)| *key ^= byte);
        let proven: bool = sha256(&client_key).ct_eq(&*self.verifier.stored_key).into();
        if !(bound && ours && proven) {
            return Err(Fault::Refused);
        }
        let server = text::encode(&*hmac(&*self.verifier.server_key, &parts));
        Ok((self.first.login, [b"v=", server.as_bytes()].concat()))
    }

    /// Who the client says it is.
    pub fn login(&self) -> &[u8] {
        &self.first.login
    }
}

/// RFC 5802 6: what the client says of channel binding must fit what it was offered.
fn check_flag(flag: &[u8], channel: Channel<'_>) -> Result<(), Fault> {
    match (flag, channel) {
        (b"n", Channel::None | Channel::Unused) | (b"y", Channel::None) => Ok(()),
        (b"p=tls-exporter", Channel::Bound(_)) => Ok(()),
        // `y` where -PLUS was offered: somebody took the offer away on its way to the client.
        (b"n" | b"y", _) => Err(Fault::Refused),
        (name, _) if name.starts_with(b"p=") => Err(Fault::Refused),
        _ => Err(Fault::Malformed),
    }
}

/// Nobody may act for somebody else.
fn check_authzid(authzid: &[u8], login: &[u8]) -> Result<(), Fault> {
    if authzid.is_empty() {
        return Ok(());
    }
    let authzid = attribute(Some(authzid), b'a').and_then(unescaped).ok_or(Fault::Malformed)?;
    if authzid == login { Ok(()) } else { Err(Fault::Refused) }
}

fn attribute(field: Option<&[u8]>, name: u8) -> Option<&[u8]> {
    field?.strip_prefix(&[name, b'='])
}

/// RFC 5802 5.1: in a saslname `,` is `=2C` and `=` is `=3D`, and no other `=` may stand.
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let byte = if *byte == b'=' {
            let (code, after) = rest.split_at_checked(2)?;
            rest = after;
            match code {
                b"2C" => b',',
                b"3D" => b'=',
                _ => return None,
            }
        } else {
            *byte
        };
        plain.push(byte);
    }
    (!plain.is_empty()).then_some(plain)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut block = Zeroizing::new([0; BLOCK]);
    block.iter_mut().zip(key).for_each(|(place, byte)| *place = *byte);
    let mut hmac = Hmac::<Sha256>::new((&*block).into());
    parts.iter().for_each(|part| hmac.update(part));
    Zeroizing::new(hmac.finalize().into_bytes().into())
}

fn sha256(key: &[u8; KEY]) -> Key {
    Zeroizing::new(Sha256::digest(key).into())
}

fn key(text: &[u8]) -> Option<Key> {
    let bytes = text::decode(text)?;
    Some(Zeroizing::new(*bytes.first_chunk::<KEY>().filter(|_| bytes.len() == KEY)?))
}

/// Iterations for new verifiers: RFC 7677 4 asks for 15,000 or more; their cost falls on the client and on whoever steals the verifier.
pub const ITERATIONS: u32 = 100_000;

/// RFC 7677 4 has the least; the most is some seconds, for a client as for us.
const GRANTED: RangeInclusive<u32> = 4_096..=10_000_000;

/// Bytes of a salt.
pub const SALT: usize = 16;

/// Random bytes of a nonce: 24 characters.
pub const NONCE: usize = 18;

/// Bytes of SHA-256, and of its blocks, to which HMAC fills keys with zeroes.
const KEY: usize = 32;
const BLOCK: usize = 64;

const PROOF: &[u8] = b",p=";

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SALT: &[u8] = b"W22ZaJ0SNY7soEsUEjb6gQ==";
    const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// RFC 7677 3: the example, with its server's nonce, which is not base64.
    fn example() -> Challenge {
        static VERIFIER: OnceLock<Verifier> = OnceLock::new();
        let verifier = VERIFIER
            .get_or_init(|| Verifier::new(b"pencil", &text::decode(SALT).unwrap(), 4096))
            .clone();
        let first = ClientFirst::parse(FIRST, Channel::None).unwrap();
        assert_eq!(first.login, b"user");
        let mut challenge = first.challenge(verifier, &[0; NONCE]);
        let nonce = b"rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        challenge.nonce = nonce.to_vec();
        challenge.message = [b"r=", &nonce[..], b",s=", SALT, b",i=4096"].concat();
        challenge
    }

    #[test]
    fn the_vector_of_rfc_7677() {
        let (login, last) = example().finish(FINAL).unwrap();
        assert_eq!(login, b"user");
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn no_byte_of_the_final_message_can_be_another() {
        for at in 0..FINAL.len() {
            for bit in [1, 2, 0x20, 0x80] {
                let mut message = FINAL.to_vec();
                message[at] ^= bit;
                assert!(example().finish(&message).is_err(), "{}", message.escape_ascii());
            }
            assert!(example().finish(&FINAL[..at]).is_err(), "cut at {at}");
        }
    }

    // RFC 5802 5.1: "The server MUST verify that the nonce sent by the client in the second message is the same".
    #[test]
    fn the_nonce_extends_the_client_s_and_is_fresh() {
        let first = || ClientFirst::parse(FIRST, Channel::None).unwrap();
        let verifier = || Verifier::new(b"pencil", b"salt", 4096);
        let one = first().challenge(verifier(), &[1; NONCE]);
        let two = first().challenge(verifier(), &[2; NONCE]);
        assert!(one.nonce.starts_with(b"rOprNGfwEbeRWgbNEkqO") && one.nonce.len() == 44);
        assert_ne!(one.nonce, two.nonce);
        let answer = client(&two.message, b"pencil", b"n,,", FIRST, b"");
        assert_eq!(one.finish(&answer), Err(Fault::Refused));
        assert!(two.finish(&answer).is_ok());
    }

    // The same sentence: a proof that is right, but for another nonce, is none.
    #[test]
    fn a_proof_for_another_nonce_is_refused() {
        for (nonce, result) in
            [(None, Ok(())), (Some("r=rOprNGfwEbeRWgbNEkqO"), Err(Fault::Refused))]
        {
            let first = ClientFirst::parse(FIRST, Channel::None).unwrap();
            let challenge = first.challenge(Verifier::new(b"pencil", b"salt", 4096), &[1; NONCE]);
            let answer = client_saying(nonce, &challenge.message, b"pencil", b"n,,", FIRST, b"");
            assert_eq!(challenge.finish(&answer).map(|_| ()), result);
        }
    }

    // RFC 5802 6: `y` while -PLUS was offered is a downgrade; `p=` needs the true binding.
    #[test]
    fn channel_binding() {
        let exporter = [9; 32];
        let bound = Channel::Bound(&exporter);
        for (header, channel, result) in [
            ("n,,", Channel::None, Ok(())),
            ("y,,", Channel::None, Ok(())),
            ("p=tls-exporter,,", Channel::None, Err(Fault::Refused)),
            ("n,,", Channel::Unused, Ok(())),
            ("y,,", Channel::Unused, Err(Fault::Refused)),
            ("p=tls-exporter,,", Channel::Unused, Err(Fault::Refused)),
            ("n,,", bound, Err(Fault::Refused)),
            ("y,,", bound, Err(Fault::Refused)),
            ("p=tls-exporter,,", bound, Ok(())),
            ("p=tls-unique,,", bound, Err(Fault::Refused)),
            ("p=tls-server-end-point,,", bound, Err(Fault::Refused)),
            ("x,,", Channel::None, Err(Fault::Malformed)),
            (",,", Channel::None, Err(Fault::Malformed)),
        ] {
            let first = [header, "n=user,r=abc"].concat();
            let parsed = ClientFirst::parse(first.as_bytes(), channel);
            assert_eq!(parsed.map(|_| ()), result, "{header} {channel:?}");
        }
        for (binding, result) in [(&exporter[..], true), (&[8; 32], false), (b"", false)] {
            let first = b"p=tls-exporter,,n=user,r=abc";
            let challenge = ClientFirst::parse(first, bound)
                .unwrap()
                .challenge(Verifier::new(b"pencil", b"salt", 4096), &[3; NONCE]);
            let answer = client(&challenge.message, b"pencil", b"p=tls-exporter,,", first, binding);
            assert_eq!(challenge.finish(&answer).is_ok(), result);
        }
    }

    #[test]
    fn first_messages() {
        for (message, login) in [
            (&b"n,,n=user,r=abc"[..], Ok(&b"user"[..])),
            (b"n,a=user,n=user,r=abc", Ok(b"user")),
            (b"n,a=root,n=user,r=abc", Err(Fault::Refused)),
            (b"n,user,n=user,r=abc", Err(Fault::Malformed)),
            (b"n,,n=a=2Cb=3Dc,r=abc", Ok(b"a,b=c")),
            (b"n,,n=a=2cb,r=abc", Err(Fault::Malformed)),
            (b"n,,n=a=,r=abc", Err(Fault::Malformed)),
            (b"n,,n=user,r=abc,x=extension", Ok(b"user")),
            (b"n,,m=ext,n=user,r=abc", Err(Fault::Malformed)),
            (b"n,,n=,r=abc", Err(Fault::Malformed)),
            (b"n,,n=user,r=", Err(Fault::Malformed)),
            (b"n,,n=user,r=a c", Err(Fault::Malformed)),
            (b"n,,n=user", Err(Fault::Malformed)),
            (b"n,,r=abc,n=user", Err(Fault::Malformed)),
            (b"n,", Err(Fault::Malformed)),
            (b"", Err(Fault::Malformed)),
        ] {
            let parsed = ClientFirst::parse(message, Channel::None).map(|first| first.login);
            assert_eq!(parsed.as_deref().map_err(|f| *f), login, "{}", message.escape_ascii());
        }
    }

    // RFC 5803 3, and what `doveadm pw -s SCRAM-SHA-256 -p pencil` of 2.3.19 printed.
    #[test]
    fn verifiers_as_text() {
        let text = "4096,AbCjhKkOUc+6SzPw/lnw5g==,uYwUnoO48Ix436cjkU2U/0ttC7myvqu9oCh8H7wnAC8=,\
            Q9GVUHQTqWzCDE+9YkWXkKdLTprodP0zomC4Zj83s3A=";
        let verifier = Verifier::parse(text).unwrap();
        assert_eq!(verifier.text(), text);
        assert!(verifier.matches(b"pencil") && !verifier.matches(b"pencils"));
        let (head, keys) = text.split_at(29);
        let rfc =
            format!("SCRAM-SHA-256${}${}", head.replace(',', ":"), &keys[1..].replace(',', ":"));
        assert_eq!(Verifier::parse(&rfc), Some(verifier));
        for bad in ["", ",,,", &text[..80], &format!("{text},x"), "x,,,"] {
            assert_eq!(Verifier::parse(bad), None, "{bad}");
        }
        for (count, good) in [("4095", false), ("10000000", true), ("10000001", false)] {
            let other = text.replacen("4096", count, 1);
            assert_eq!(Verifier::parse(&other).is_some(), good, "{count}");
        }
        assert_eq!(format!("{:?}", Verifier::parse(text)), "Some(Verifier)");
    }

    #[test]
    fn nobody_has_always_the_same_salt_and_no_password() {
        let nobody = |login: &[u8]| Verifier::of_nobody(&[5; 32], login, 4096);
        assert_eq!(nobody(b"a"), nobody(b"a"));
        assert_ne!(nobody(b"a").salt, nobody(b"b").salt);
        assert_eq!(nobody(b"a").salt.len(), super::SALT);
        assert!(!nobody(b"a").matches(b""));
    }

    /// What a client that knows `password` answers.
    pub(crate) fn client(
        challenge: &[u8],
        password: &[u8],
        header: &[u8],
        first: &[u8],
        bound: &[u8],
    ) -> Vec<u8> {
        client_saying(None, challenge, password, header, first, bound)
    }

    /// The same, with another `r=`.
    fn client_saying(
        other: Option<&str>,
        challenge: &[u8],
        password: &[u8],
        header: &[u8],
        first: &[u8],
        bound: &[u8],
    ) -> Vec<u8> {
        let challenge_text = str::from_utf8(challenge).unwrap();
        let [nonce, salt, count] = challenge_text.split(',').collect::<Vec<_>>()[..] else {
            panic!()
        };
        let salt = text::decode(&salt.as_bytes()[2..]).unwrap();
        let count = count[2..].parse().unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, KEY>(password, &salt, count);
        let client_key = hmac(&salted, &[b"Client Key"]);
        let stored = sha256(&client_key);
        let binding = text::encode(&[header, bound].concat());
        let last = format!("c={binding},{}", other.unwrap_or(nonce));
        let bare = &first[header.len()..];
        let signature = hmac(&*stored, &[bare, b",", challenge, b",", last.as_bytes()]);
        let proof: Vec<_> = client_key.iter().zip(signature.iter()).map(|(a, b)| a ^ b).collect();
        format!("{last},p={}", text::encode(&proof)).into_bytes()
    }
}
