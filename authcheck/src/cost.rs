//! What a hash string takes to compare, told by its form: a database may hold strings that would take a machine's memory, or a day.

use crate::md5crypt;
use crate::password::{Phc, Unable};

/// Whether a string is a hash that is known here and takes no more than is granted.
pub fn check(hash: &str) -> Result<(), Unable> {
    let granted = match hash.split('$').nth(1) {
        Some("argon2id" | "argon2i" | "argon2d") => argon2(hash)?,
        Some("y") => yescrypt(hash)?,
        Some("2a" | "2b" | "2x" | "2y") => bcrypt(hash)?,
        Some("5") => sha(hash, 43)?,
        Some("6") => sha(hash, 86)?,
        Some("1") => md5crypt::parts(hash).map(|_| true).ok_or(Unable::Unsupported)?,
        _ => return Err(Unable::Unsupported),
    };
    if granted { Ok(()) } else { Err(Unable::Cost) }
}

/// The part of a hash string that says what work it takes; strings that differ only behind it take the same.
pub fn work(hash: &str) -> &str {
    let bcrypt = hash.starts_with("$2");
    let behind = if bcrypt { 1 } else { 2 };
    hash.rsplitn(usize::saturating_add(behind, 1), '$').nth(behind).unwrap_or(hash)
}

/// The memory in bytes that a $y$ string asks for.
pub fn yescrypt_memory(hash: &str) -> Result<u64, Unable> {
    let params = yescrypt_params(hash)?;
    Ok(params.n().saturating_mul(u64::from(params.r())).saturating_mul(YESCRYPT_BLOCK))
}

fn argon2(hash: &str) -> Result<bool, Unable> {
    let (memory, passes) = Phc::parse(hash)?.costs();
    Ok(memory <= MEMORY_KIB && memory.saturating_mul(passes) <= WORK_KIB)
}

/// Of crypt(3)'s own flavour, which knows no parallel lanes and no further passes.
fn yescrypt(hash: &str) -> Result<bool, Unable> {
    let params = yescrypt_params(hash)?;
    let plain = yescrypt::Params::new(yescrypt::Mode::default(), params.n(), params.r(), 1);
    if plain != Ok(params) || hash.split('$').count() != 5 {
        return Err(Unable::Unsupported);
    }
    Ok(yescrypt_memory(hash)?.div_ceil(1024) <= MEMORY_KIB)
}

fn yescrypt_params(hash: &str) -> Result<yescrypt::Params, Unable> {
    let field = hash.split('$').nth(2).ok_or(Unable::Unsupported)?;
    field.parse().map_err(|_| Unable::Unsupported)
}

fn bcrypt(hash: &str) -> Result<bool, Unable> {
    let parts: bcrypt::HashParts = hash.parse().map_err(|_| Unable::Unsupported)?;
    Ok(parts.get_cost() <= BCRYPT_COST)
}

/// `$5$[rounds=N$]SALT$DIGEST`.
fn sha(hash: &str, length: usize) -> Result<bool, Unable> {
    let mut fields = hash.split('$').skip(2).peekable();
    let rounds = match fields.next_if(|field| field.starts_with(ROUNDS)) {
        Some(field) => field.strip_prefix(ROUNDS).and_then(|count| count.parse().ok()),
        None => Some(sha_crypt::Params::RECOMMENDED_ROUNDS),
    };
    let rounds = rounds.ok_or(Unable::Unsupported)?;
    sha_crypt::Params::new(rounds).map_err(|_| Unable::Unsupported)?;
    let (salt, digest) = (fields.next(), fields.next());
    let known = |text: &str| text.bytes().all(|byte| md5crypt::ALPHABET.contains(&byte));
    let whole = salt.is_some_and(known)
        && digest.is_some_and(|digest| digest.len() == length && known(digest))
        && fields.next().is_none();
    if whole { Ok(rounds <= SHA_ROUNDS) } else { Err(Unable::Unsupported) }
}

/// The largest memory that argon2 and yescrypt are granted: what libsodium calls sensitive. softlimit(8) sets lower ones.
const MEMORY_KIB: u64 = 1 << 20;

/// Memory times passes: four passes over that, some seconds.
const WORK_KIB: u64 = 4 * MEMORY_KIB;

/// Some seconds, as everything here: 64 times the usual 10.
const BCRYPT_COST: u32 = 16;

/// A thousand times the usual 5,000.
const SHA_ROUNDS: u32 = 5_000_000;

const ROUNDS: &str = "rounds=";

/// yescrypt(5): N blocks of 128 r bytes.
const YESCRYPT_BLOCK: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::matches;

    #[test]
    fn the_work_of_a_hash() {
        for (hash, cost) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$salt$hash", "$argon2id$v=19$m=19456,t=2,p=1"),
            ("$6$salt$hash", "$6"),
            ("$6$rounds=10000$salt$hash", "$6$rounds=10000"),
            ("$y$j9T$salt$hash", "$y$j9T"),
            ("$2b$12$saltandhash", "$2b$12"),
            ("x", "x"),
        ] {
            assert_eq!(work(hash), cost);
        }
    }

    // A string of a few bytes must not take the machine down: it is refused before anything is computed.
    #[test]
    fn what_takes_too_much_is_not_computed() {
        let (sha, sixteen) = ("x".repeat(86), "YWJjZGVmZ2hpamtsbW5vcA");
        for hash in [
            format!("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ${sixteen}"),
            format!("$argon2id$v=19$m=1048577,t=1,p=1$c2FsdHNhbHQ${sixteen}"),
            format!("$argon2i$v=19$m=8,t=4294967295,p=1$c2FsdHNhbHQ${sixteen}"),
            format!("$argon2d$v=19$m=4294967295,t=4294967295,p=1$c2FsdHNhbHQ${sixteen}"),
            format!("$6$rounds=999999999$salt${sha}"),
            format!("$6$rounds=5000001$salt${sha}"),
            format!("$5$rounds=999999999$salt${}", &sha[..43]),
            "$2b$31$Lq7ymECVPRFX5a5Dd3/XQO1DF2M9eRpDFI.4kSYEUbNUE.O5.ydB6".into(),
            "$2y$17$Lq7ymECVPRFX5a5Dd3/XQO1DF2M9eRpDFI.4kSYEUbNUE.O5.ydB6".into(),
            "$y$jUT$iYafu3j0yaWH50/DxK7DH/$g2mq6HyMcj/gpA3X9O7pBbuZ.rg4GxxtGdYuEac3W78".into(),
            "$y$jHjjk/$iYafu3j0yaWH50/DxK7DH/$g2mq6HyMcj/gpA3X9O7pBbuZ.rg4GxxtGdYuEac3W78".into(),
        ] {
            assert_eq!(check(&hash), Err(Unable::Cost), "{hash}");
            assert_eq!(matches(&hash, b"secret"), Err(Unable::Cost), "{hash}");
        }
        // crypt(3) makes none with lanes, further passes or another flavour.
        for params in ["j9T.", "j9T//", "j9T/.", "/9T", "j9T0/"] {
            let hash = format!(
                "$y${params}$iYafu3j0yaWH50/DxK7DH/$g2mq6HyMcj/gpA3X9O7pBbuZ.rg4GxxtGdYuEac3W78"
            );
            assert_eq!(check(&hash), Err(Unable::Unsupported), "{hash}");
        }
    }
}
