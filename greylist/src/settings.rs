//! The environment that the administrator sets, or tcprules for each client.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use plumb::ucspi::switch;
use plumb::{Doing, Error, Result};

use crate::rules::Rules;
use crate::triplet::{Policy, Seconds};

/// What greylist was told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// False in log-only mode (GREYLIST=log).
    pub enforced: bool,
    /// The store (GREYLIST_DB).
    pub store: PathBuf,
    /// Delay, window and life (GREYLIST_DELAY, GREYLIST_WINDOW, GREYLIST_LIFE).
    pub policy: Policy,
    /// Whether all the mail of a host counts as one triple (GREYLIST_KEY=ip).
    pub host_only: bool,
    /// Whether the UCSPI server has verified TCPREMOTEHOST (GREYLIST_HOST=1).
    pub verified_name: bool,
    /// The rules (GREYLIST_RULES).
    pub rules: Rules,
}

/// Whether this client is left alone: GREYLIST=0, or RELAYCLIENT is there (RFC 6647 5 (7)).
pub fn left_alone(env: impl Fn(&str) -> Option<OsString>) -> bool {
    let off = env("GREYLIST").is_some_and(|value| {
        let digits = value.as_encoded_bytes();
        !digits.is_empty() && digits.iter().all(|&digit| digit == b'0')
    });
    off || env("RELAYCLIENT").is_some()
}

impl Settings {
    /// Reads the environment, and the rules file that it names.
    ///
    /// # Errors
    /// What is missing or makes no sense (100); rules that cannot be read just now (111).
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let policy = policy(&env)?;
        Ok(Settings {
            enforced: enforced(env("GREYLIST").as_deref())?,
            store: store(env("GREYLIST_DB"))?,
            policy,
            host_only: host_only(env("GREYLIST_KEY").as_deref())?,
            verified_name: switch(env("GREYLIST_HOST").as_deref()),
            rules: match env("GREYLIST_RULES").filter(|path| !path.is_empty()) {
                None => Rules::default(),
                Some(path) => rules(Path::new(&path), policy.window)?,
            },
        })
    }
}

/// Where the store is.
///
/// # Errors
/// No GREYLIST_DB, or one of a kind that is not there yet (100).
pub fn store(value: Option<OsString>) -> Result<PathBuf> {
    let path = value.filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| Error::permanent("GREYLIST_DB is not set"))?;
    let scheme = path.as_encoded_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    if REMOTE_STORES.contains(&scheme) {
        let scheme = scheme.escape_ascii();
        return Err(Error::permanent(format!(
            "GREYLIST_DB: {scheme}:// is not supported yet, only the path of a file is"
        )));
    }
    Ok(path.into())
}

/// Delay, window and life, each with its default where it is not set.
///
/// # Errors
/// What is no number of seconds, or a delay not below the window (100).
pub fn policy(env: impl Fn(&str) -> Option<OsString>) -> Result<Policy> {
    let default = Policy::default();
    let policy = Policy {
        delay: seconds(&env, "GREYLIST_DELAY", default.delay)?,
        window: seconds(&env, "GREYLIST_WINDOW", default.window)?,
        life: seconds(&env, "GREYLIST_LIFE", default.life)?,
    };
    if policy.delay < policy.window {
        return Ok(policy);
    }
    let Policy { delay, window, .. } = policy;
    Err(Error::permanent(format!(
        "GREYLIST_DELAY ({delay}) is not below GREYLIST_WINDOW ({window})"
    )))
}

fn seconds(
    env: impl Fn(&str) -> Option<OsString>,
    name: &str,
    default: Seconds,
) -> Result<Seconds> {
    let Some(value) = env(name).filter(|value| !value.is_empty()) else { return Ok(default) };
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .filter(|&seconds| seconds <= LONGEST)
        .ok_or_else(|| Error::permanent(format!("{name} is no number of seconds")))
}

fn enforced(value: Option<&OsStr>) -> Result<bool> {
    match value.map(OsStr::as_encoded_bytes) {
        None | Some(b"") => Ok(true),
        Some(b"log") => Ok(false),
        _ if switch(value) => Ok(true),
        _ => Err(Error::permanent("GREYLIST must be 0, 1 or log")),
    }
}

fn host_only(value: Option<&OsStr>) -> Result<bool> {
    match value.map(OsStr::as_encoded_bytes) {
        None | Some(b"" | b"triple") => Ok(false),
        Some(b"ip") => Ok(true),
        _ => Err(Error::permanent("GREYLIST_KEY must be triple or ip")),
    }
}

fn rules(path: &Path, window: Seconds) -> Result<Rules> {
    let doing = || format!("read {}", path.display());
    let bad = |reason: String| Error::permanent(format!("{}: {reason}", path.display()));
    let status = match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::unable(doing(), &error).permanently());
        }
        status => status.doing(doing())?,
    };
    // A FIFO would keep the client waiting, and a device the memory growing.
    if !status.is_file() || status.len() > RULES_LIMIT {
        return Err(bad(format!("no file of at most {RULES_LIMIT} bytes")));
    }
    let mut text = Vec::new();
    let open = fs::File::open(path).doing(doing())?;
    open.take(RULES_LIMIT).read_to_end(&mut text).doing(doing())?;
    let text = String::from_utf8(text).map_err(|_| bad("not a text in UTF-8".into()))?;
    Rules::parse(&text, window).map_err(|error| bad(error.to_string()))
}

/// Stores on other machines, which are to come.
const REMOTE_STORES: [&[u8]; 4] = [b"redis", b"rediss", b"redis+unix", b"valkey"];

/// Every session reads the rules: this many bytes, some 20,000 rules, take it 10 ms.
const RULES_LIMIT: u64 = 1_048_576;

/// Ten years, so that no sum of times overflows.
const LONGEST: Seconds = 10 * 365 * crate::triplet::DAY;

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| {
            let found = set.iter().find(|(key, _)| *key == name)?;
            Some(found.1.into())
        }
    }

    #[test]
    fn who_is_left_alone() {
        for (set, alone) in [
            (&[][..], false),
            (&[("GREYLIST", "")], false),
            (&[("GREYLIST", "1")], false),
            (&[("GREYLIST", "log")], false),
            (&[("GREYLIST", "0")], true),
            // qmail: RELAYCLIENT counts where it is set, even empty.
            (&[("RELAYCLIENT", "")], true),
        ] {
            assert_eq!(left_alone(env(set)), alone, "{set:?}");
        }
    }

    #[test]
    fn defaults_are_those_of_rfc_6647() {
        let settings = Settings::from_env(env(&[("GREYLIST_DB", "/x/db")])).unwrap();
        assert_eq!(
            settings,
            Settings {
                enforced: true,
                store: "/x/db".into(),
                policy: Policy { delay: 60, window: 86_400, life: 36 * 86_400 },
                host_only: false,
                verified_name: false,
                rules: Rules::default(),
            }
        );
        let all = [
            ("GREYLIST", "log"),
            ("GREYLIST_DB", "db"),
            ("GREYLIST_DELAY", "120"),
            ("GREYLIST_WINDOW", "3600"),
            ("GREYLIST_LIFE", "604800"),
            ("GREYLIST_KEY", "ip"),
            ("GREYLIST_HOST", "1"),
        ];
        let settings = Settings::from_env(env(&all)).unwrap();
        assert!(!settings.enforced && settings.host_only && settings.verified_name);
        assert_eq!(settings.policy, Policy { delay: 120, window: 3_600, life: 604_800 });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (set, error) in [
            (&[][..], "GREYLIST_DB is not set"),
            (&[("GREYLIST", "yes")], "GREYLIST must be 0, 1 or log"),
            (
                &[("GREYLIST_DB", "redis://h/")],
                "GREYLIST_DB: redis:// is not supported yet, only the path of a file is",
            ),
            (
                &[("GREYLIST_DB", "redis+unix:///s")],
                "GREYLIST_DB: redis+unix:// is not supported yet, only the path of a file is",
            ),
            (&[("GREYLIST_DELAY", "1m")], "GREYLIST_DELAY is no number of seconds"),
            (&[("GREYLIST_LIFE", "-1")], "GREYLIST_LIFE is no number of seconds"),
            (&[("GREYLIST_WINDOW", "99999999999")], "GREYLIST_WINDOW is no number of seconds"),
            (
                &[("GREYLIST_DELAY", "86400")],
                "GREYLIST_DELAY (86400) is not below GREYLIST_WINDOW (86400)",
            ),
            (
                &[("GREYLIST_DB", "x"), ("GREYLIST_KEY", "sender")],
                "GREYLIST_KEY must be triple or ip",
            ),
            (
                &[("GREYLIST_DB", "x"), ("GREYLIST_RULES", "/nonexistent/r")],
                "unable to read /nonexistent/r: No such file or directory",
            ),
        ] {
            let found = Settings::from_env(env(set)).unwrap_err();
            assert_eq!(found.to_string(), error);
            assert_eq!(found.exit_code(), 100, "{error}");
        }
    }
}
