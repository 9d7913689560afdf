//! What users.cdb says about one login.

use crate::cram::Context;
use crate::scram::Verifier;
use crate::secret::Secret;

/// One account.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The password's hash, for PLAIN and LOGIN.
    pub password: Option<Secret>,
    /// For SCRAM-SHA-256, and for PLAIN and LOGIN where there is no hash.
    pub scram: Option<Verifier>,
    /// For CRAM-MD5, on request only.
    pub cram: Option<Context>,
    /// From this second of Unix time on the account is refused.
    pub expires: Option<u64>,
    /// Whether the account is refused.
    pub disabled: bool,
    /// Variables for the program after success.
    pub env: Vec<(String, String)>,
    /// Whom a program started by checkpassword's rules runs as.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Its folder, and $HOME.
    pub home: Option<String>,
    /// $SHELL.
    pub shell: Option<String>,
}

/// A record that says what is not known here; it may be a restriction, so nobody gets in by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged(pub String);

impl Record {
    /// Reads a value of users.cdb: `v=1` and lines NAME=VALUE, or else an AUTH_CDB value, `HASH,NAME="VALUE",...`.
    pub fn parse(value: &[u8]) -> Result<Self, Damaged> {
        let text = str::from_utf8(value).map_err(|_| damaged("not UTF-8"))?;
        match text.strip_prefix(FIRST_LINE) {
            Some(lines) => Self::parse_fields(lines.lines()),
            None => Self::parse_auth_cdb(text),
        }
    }

    /// Reads fields NAME=VALUE.
    pub fn parse_fields<'a>(fields: impl Iterator<Item = &'a str>) -> Result<Self, Damaged> {
        let mut record = Self::default();
        for field in fields {
            let (name, value) = field.split_once('=').ok_or_else(|| damaged("field without ="))?;
            record.set(name, value).ok_or_else(|| damaged(nameable(name)))?;
        }
        Ok(record)
    }

    /// What was said, as fields that parse_fields() reads.
    pub fn fields(&self) -> Vec<Secret> {
        let text = |name: &str, value: &str| Secret::from(format!("{name}={value}").as_bytes());
        let mut fields = Vec::new();
        let secret = self.password.as_ref().and_then(|hash| hash.text());
        fields.extend(secret.map(|hash| text("pw", hash)));
        fields.extend(self.scram.as_ref().map(|scram| text("scram-sha-256", &scram.text())));
        fields.extend(self.cram.as_ref().map(|cram| text("cram-md5", &cram.text())));
        fields.extend(self.expires.map(|time| text("expires", &time.to_string())));
        fields.extend(self.disabled.then(|| text("disabled", "1")));
        fields.extend(self.uid.map(|id| text("uid", &id.to_string())));
        fields.extend(self.gid.map(|id| text("gid", &id.to_string())));
        fields.extend(self.home.iter().map(|home| text("home", home)));
        fields.extend(self.shell.iter().map(|shell| text("shell", shell)));
        fields.extend(self.env.iter().map(|(name, value)| text("env", &format!("{name}={value}"))));
        fields
    }

    /// Why the account is refused at this second of Unix time, whatever the password.
    pub fn refused(&self, now: u64) -> Option<Refusal> {
        if self.disabled {
            return Some(Refusal::Disabled);
        }
        self.expires.filter(|expires| *expires <= now).map(|_| Refusal::Expired)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "pw" if is_clean(value) => set(&mut self.password, Secret::from(value.as_bytes())),
            "scram-sha-256" => set(&mut self.scram, Verifier::parse(value)?),
            "cram-md5" => set(&mut self.cram, Context::parse(value.as_bytes())?),
            "expires" => set(&mut self.expires, value.parse().ok()?),
            "uid" => set(&mut self.uid, id(value)?),
            "gid" => set(&mut self.gid, id(value)?),
            "home" => set(&mut self.home, clean(value)?),
            "shell" => set(&mut self.shell, clean(value)?),
            "disabled" if value == "1" => {
                self.disabled = true;
                Some(())
            }
            "env" => {
                let (name, value) = value.split_once('=')?;
                self.env.push((variable(name)?, clean(value)?));
                Some(())
            }
            _ => None,
        }
    }

    /// AUTH_CDB: the hash may hold commas itself ($argon2id$ does), so it ends at the first comma that begins a pair.
    fn parse_auth_cdb(text: &str) -> Result<Self, Damaged> {
        let text = text.trim_end_matches('\n');
        let starts = text.match_indices(',').map(|(at, _)| at);
        let end = starts.into_iter().find(|at| begins_pair(text.get(*at..).unwrap_or_default()));
        let (hash, mut rest) = text.split_at(end.unwrap_or(text.len()));
        if hash.is_empty() {
            return Err(damaged("no hash"));
        }
        let mut record = Self { password: Some(hash.as_bytes().into()), ..Self::default() };
        while !rest.is_empty() {
            let (name, value, after) = pair(rest).ok_or_else(|| damaged("pairs"))?;
            if name == "PASSWORD_EXPIRES" {
                record.expires = Some(value.parse().map_err(|_| damaged("PASSWORD_EXPIRES"))?);
            } else {
                let value = clean(value).ok_or_else(|| damaged(nameable(name)))?;
                record.env.push((name.to_owned(), value));
            }
            rest = after;
        }
        Ok(record)
    }
}

/// Why an account is refused whatever its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its time is over.
    Expired,
    /// It is switched off.
    Disabled,
}

/// A value for users.cdb from fields.
pub fn value(fields: &[Secret]) -> Secret {
    let lines = fields.iter().flat_map(|field| [&field[..], b"\n"]);
    Secret::new([FIRST_LINE.as_bytes()].into_iter().chain(lines).collect::<Vec<_>>().concat())
}

fn begins_pair(text: &str) -> bool {
    text.strip_prefix(',')
        .and_then(|pair| pair.split_once("=\""))
        .is_some_and(|(name, _)| variable(name).is_some())
}

/// `,NAME="VALUE"` and what follows it.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.strip_prefix(',')?.split_once("=\"")?;
    let (value, after) = rest.split_once('"')?;
    variable(name)?;
    (after.is_empty() || after.starts_with(',')).then_some((name, value, after))
}

/// A name that any shell takes for a variable's.
fn variable(name: &str) -> Option<String> {
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let goes_on = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (begins && goes_on).then(|| name.to_owned())
}

/// Text that can stand in one line and in the environment.
fn clean(value: &str) -> Option<String> {
    is_clean(value).then(|| value.to_owned())
}

fn is_clean(value: &str) -> bool {
    !value.chars().any(char::is_control)
}

/// A uid or gid; the highest number means "unchanged" to the kernel.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id < u32::MAX)
}

fn set<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn damaged(what: &str) -> Damaged {
    Damaged(format!("bad record: {what}"))
}

/// The name of a field for the log, unless a secret has come to stand in its place.
fn nameable(name: &str) -> &str {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if plain && name.len() <= NAME_MAX { name } else { "unknown field" }
}

/// The first line of an own value.
pub const FIRST_LINE: &str = "v=1\n";

/// Longest name of a field or variable that is repeated in a message.
const NAME_MAX: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAM: &str = "4096,AbCjhKkOUc+6SzPw/lnw5g==,uYwUnoO48Ix436cjkU2U/0ttC7myvqu9oCh8H7wnAC8=,\
        Q9GVUHQTqWzCDE+9YkWXkKdLTprodP0zomC4Zj83s3A=";

    #[test]
    fn an_own_record_comes_back_as_it_was() {
        let cram = Context::of(b"secret").text();
        let text = format!(
            "v=1\npw=$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA\nscram-sha-256={SCRAM}\n\
            cram-md5={cram}\nexpires=1763640000\ndisabled=1\nuid=1000\ngid=100\nhome=/home/u\n\
            shell=/bin/sh\nenv=DATABYTES=1000\nenv=AUTH_NOTE=a=b c\n"
        );
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.password.as_ref().unwrap().len(), 44);
        assert_eq!((record.uid, record.gid), (Some(1000), Some(100)));
        assert_eq!(record.env[1], ("AUTH_NOTE".to_owned(), "a=b c".to_owned()));
        assert_eq!(record.refused(0), Some(Refusal::Disabled));
        assert_eq!(&value(&record.fields())[..], text.as_bytes());
    }

    // A field that is not known may be a restriction.
    #[test]
    fn what_is_not_understood_is_damage() {
        for lines in [
            "pw",
            "tls-required=1",
            "disabled=0",
            "disabled=",
            "expires=",
            "expires=soon",
            "expires=-1",
            "uid=4294967295",
            "uid=root",
            "scram-sha-256=x",
            "cram-md5=x",
            "env=X",
            "env==x",
            "env=1X=y",
            "env=A B=y",
            "pw=a\npw=b",
            "pw=a\r\r",
            "\n",
            "env=X=\x1b",
        ] {
            let text = format!("{FIRST_LINE}{lines}\n");
            assert!(Record::parse(text.as_bytes()).is_err(), "{lines}");
        }
        assert!(Record::parse(b"v=1\npw=\xff\n").is_err());
        let leak = Record::parse(b"v=1\n$6$salt$hash/hash=x\n").unwrap_err();
        assert_eq!(leak.0, "bad record: unknown field");
    }

    #[test]
    fn auth_cdb_records() {
        let argon = "$argon2id$v=19$m=65536,t=3,p=1$c2FsdHNhbHQ$aGFzaA";
        for (text, hash, env) in [
            ("$6$salt$hash", "$6$salt$hash", vec![]),
            ("$6$salt$hash\n", "$6$salt$hash", vec![]),
            (argon, argon, vec![]),
            (
                &format!("{argon},DATABYTES=\"1000\",X=\"a,Y=b\""),
                argon,
                vec![("DATABYTES", "1000"), ("X", "a,Y=b")],
            ),
            ("$6$s$h,RELAYCLIENT=\"\"", "$6$s$h", vec![("RELAYCLIENT", "")]),
        ] {
            let record = Record::parse(text.as_bytes()).unwrap();
            assert_eq!(record.password.as_ref().unwrap().text(), Some(hash));
            let found: Vec<_> = record.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, env);
        }
        for bad in [
            "",
            "\n",
            ",X=\"1\"",
            "$6$s$h,X=\"1",
            "$6$s$h,X=\"1\"y",
            "$6$s$h,X=\"1\",",
            "$6$s$h,X=\"1\",Y=2",
            "$6$s$h,PASSWORD_EXPIRES=\"soon\"",
        ] {
            assert!(Record::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    // What jms1's own code never did: its comparison took the whole rest of the record for the name.
    #[test]
    fn password_expires_takes_effect() {
        let text = b"$6$s$h,DATABYTES=\"1\",PASSWORD_EXPIRES=\"1763640000\",X=\"2\"";
        let record = Record::parse(text).unwrap();
        assert_eq!(record.refused(1_763_639_999), None);
        assert_eq!(record.refused(1_763_640_000), Some(Refusal::Expired));
        assert_eq!(record.env.len(), 2);
    }
}
