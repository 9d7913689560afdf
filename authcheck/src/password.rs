//! Password hashes: one string holds scheme, cost, salt and hash.

use std::hint::black_box;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use sha_crypt::password_hash::{Error as CryptError, PasswordVerifier};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::cost;
use crate::md5crypt;
use crate::secret::Secret;
use crate::text;

/// Why a password could not be compared; says nothing about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unable {
    /// The hash needs more memory than this process may have.
    Memory,
    /// The string is no hash that is known here.
    Unsupported,
    /// The hash takes more memory or time than anybody is granted.
    Cost,
}

impl Unable {
    /// For the log, and for who compiles records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "not enough memory for this hash",
            Self::Unsupported => "this kind of hash is not supported",
            Self::Cost => "this hash takes more memory or time than is granted",
        }
    }
}

/// Whether `password` is the one that `hash` was made of: $argon2id$, $argon2i$, $argon2d$, $y$, $2a$, $2b$, $2x$, $2y$, $6$, $5$ or $1$.
pub fn matches(hash: &str, password: &[u8]) -> Result<bool, Unable> {
    cost::check(hash)?;
    match hash.split('$').nth(1) {
        Some("y") => {
            yescrypt_fits(hash)?;
            crypt(yescrypt::Yescrypt::default().verify_password(password, hash))
        }
        Some("2a" | "2b" | "2x" | "2y") => {
            bcrypt::verify(password, hash).map_err(|_| Unable::Unsupported)
        }
        Some("5" | "6") => crypt(sha_crypt::ShaCrypt::default().verify_password(password, hash)),
        Some("1") => md5crypt::matches(hash, password).ok_or(Unable::Unsupported),
        _ => Phc::parse(hash)?.matches(password),
    }
}

/// An argon2id string at the cost that OWASP advises: 19 MiB, two passes.
pub fn argon2id(password: &[u8], salt: &[u8; 16]) -> Result<String, Unable> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(HASH)).map_err(|_| Unable::Unsupported)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; HASH];
    compute(&argon2, password, salt, &mut hash)?;
    let [salt, hash] = [text::encode_unpadded(salt), text::encode_unpadded(&hash)];
    Ok(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${salt}${hash}"))
}

/// A PHC string taken apart.
pub(crate) struct Phc {
    argon2: Argon2<'static>,
    salt: Secret,
    hash: Secret,
}

impl Phc {
    pub(crate) fn parse(text: &str) -> Result<Self, Unable> {
        Self::parts(text).ok_or(Unable::Unsupported)
    }

    /// Memory in KiB, and passes over it.
    pub(crate) fn costs(&self) -> (u64, u64) {
        let params = self.argon2.params();
        (params.m_cost().into(), params.t_cost().into())
    }

    fn parts(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix('$')?.split('$');
        let algorithm = Algorithm::new(fields.next()?).ok()?;
        let mut field = fields.next()?;
        let mut version = Version::V0x10;
        if let Some(number) = field.strip_prefix("v=") {
            version = Version::try_from(number.parse::<u32>().ok()?).ok()?;
            field = fields.next()?;
        }
        let mut costs = field.split(',');
        let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let (memory, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        let salt = text::decode_unpadded(fields.next()?)?;
        let hash = text::decode_unpadded(fields.next()?)?;
        let params = Params::new(memory, passes, lanes, Some(hash.len())).ok()?;
        let whole = costs.next().is_none() && fields.next().is_none();
        whole.then(|| Self { argon2: Argon2::new(algorithm, version, params), salt, hash })
    }

    fn matches(&self, password: &[u8]) -> Result<bool, Unable> {
        let mut hash = vec![0; self.hash.len()];
        compute(&self.argon2, password, &self.salt, &mut hash)?;
        let same = hash.ct_eq(&self.hash).into();
        hash.zeroize();
        Ok(same)
    }
}

/// Argon2 in memory that may be refused and is zeroed after use.
fn compute(
    argon2: &Argon2<'_>,
    password: &[u8],
    salt: &[u8],
    hash: &mut [u8],
) -> Result<(), Unable> {
    let count = argon2.params().block_count();
    let mut memory: Vec<Block> = Vec::new();
    memory.try_reserve_exact(count).map_err(|_| Unable::Memory)?;
    memory.resize(count, Block::new());
    let computed = argon2.hash_password_into_with_memory(password, salt, hash, &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    computed.map_err(|_| Unable::Unsupported)
}

/// Whether the memory that a $y$ string asks for can be had: its crate would end the process.
fn yescrypt_fits(hash: &str) -> Result<(), Unable> {
    let bytes = usize::try_from(cost::yescrypt_memory(hash)?).unwrap_or(usize::MAX);
    let bytes = bytes.saturating_add(YESCRYPT_REST);
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| Unable::Memory)?;
    black_box(memory.as_mut_ptr());
    Ok(())
}

fn crypt(verified: Result<(), CryptError>) -> Result<bool, Unable> {
    match verified {
        Ok(()) => Ok(true),
        Err(CryptError::PasswordInvalid) => Ok(false),
        Err(_) => Err(Unable::Unsupported),
    }
}

/// 19 MiB and two passes: OWASP's advice that still fits a softlimit of 64 MB.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// Bytes of an argon2id hash made here.
const HASH: usize = 32;

/// What yescrypt's prehash, S-boxes and buffers need besides.
const YESCRYPT_REST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    // Made by argon2(1) of Debian, mkpasswd(1) with libxcrypt 4.4.33 and openssl passwd 3.0.
    const SECRET: [&str; 10] = [
        "$1$/alf.QlS$eTgQyOf74eEtm5ZG7jzH40",
        "$argon2id$v=19$m=4096,t=2,p=2$c2FsdHNhbHQ$Eses5RvFt5Zr0Biob9ZYGjCNU7kvByThFkGOkxtwx/o",
        "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$0OQeN6HwO0M2YrzAjTEiuvxg/1eyJQJGlBfVMF/YMdE",
        "$argon2d$v=19$m=64,t=3,p=1$c2FsdHNhbHQ$o2Yh+CdFSJ9gMwDtfRmoeIFZHUUZYW08DLiqC6qbCQQ",
        "$y$j9T$iYafu3j0yaWH50/DxK7DH/$g2mq6HyMcj/gpA3X9O7pBbuZ.rg4GxxtGdYuEac3W78",
        "$2b$05$Lq7ymECVPRFX5a5Dd3/XQO1DF2M9eRpDFI.4kSYEUbNUE.O5.ydB6",
        "$5$ab./cdEF$ntWjUlF4fNWO0E5h4SeQXOW5yW1Sw1wQxFG4arSap98",
        "$6$rTGeRIZWX3lQuT/q$nEARYO.rHkQLPawkjizhCgVUZXGeMjp38fcSGbgkn01cDtiBMAfWYINZ.oOT8L5hDjpspgdQxl1BfaZSbkw4H0",
        "$5$rounds=1234$nxLqmNS3REo0PutS$fGyxQjJFq27A06DWIN9U5sse/GRVGxTDkSROSGT44C7",
        "$6$rounds=1234$Jt1Zjev.dJ3HtAIj$l5.cXEtYfxqq4Y8.2/qLnS5zWc9D6SQN.vNA2VWuldIefJor57v4W50sG7USkS4KzAyYIpAzJly/5vHvWdC2Q.",
    ];

    #[test]
    fn hashes_of_other_programs() {
        for hash in SECRET {
            assert_eq!(cost::check(hash), Ok(()), "{hash}");
            assert_eq!(matches(hash, b"secret"), Ok(true), "{hash}");
            assert_eq!(matches(hash, b"secres"), Ok(false), "{hash}");
            assert_eq!(matches(hash, b""), Ok(false), "{hash}");
        }
        // For passwords in ASCII all of bcrypt's letters mean the same.
        for letter in ["a", "x", "y"] {
            let hash = SECRET[5].replacen("$2b$", &format!("$2{letter}$"), 1);
            assert_eq!((cost::check(&hash), matches(&hash, b"secret")), (Ok(()), Ok(true)));
        }
    }

    #[test]
    fn an_own_hash() {
        let hash = argon2id(b"tanstaaftanstaaf", &[7; 16]).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$BwcHBwcHBwcHBwcHBwcHBw$"));
        assert_eq!(matches(&hash, b"tanstaaftanstaaf"), Ok(true));
        assert_eq!(matches(&hash, b"tanstaaftanstaag"), Ok(false));
    }

    #[test]
    fn what_is_no_hash_is_not_compared() {
        for hash in [
            "",
            "secret",
            "$",
            "$1$salt$hash",
            "$argon2id$",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$not*base64",
            "$argon2id$v=19$m=19456,t=2$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA",
            "$argon2id$v=19$m=1,t=0,p=0$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA",
            "$argon2id$v=7$m=64,t=1,p=1$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA",
            "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA$x",
            "$argon2id$v=19$m=64,t=1,p=1,x=1$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA",
            "$y$",
            "$y$j9T$salt",
            "$2b$99$abc",
            "$2b$",
            "$6$salt",
            "$6$",
        ] {
            assert_eq!(cost::check(hash), Err(Unable::Unsupported), "{hash}");
            assert_eq!(matches(hash, b"secret"), Err(Unable::Unsupported), "{hash}");
        }
    }
}
