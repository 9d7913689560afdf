//! users.cdb: a constant database whose first record, with an empty key, seals the whole file.
//!
//! The sum in the seal tells a damaged file from a login that is not there: the one is a temporary
//! failure, the other a wrong password. Files of other makers (AUTH_CDB) have no seal.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use cdb::{Cdb, Maker};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use sha2::{Digest, Sha256};

use crate::facts::{Facts, SUM_HEX};
use crate::record::{self, Record};
use crate::secret::Secret;
use crate::text;

/// An open user database.
#[derive(Debug)]
pub struct Users {
    cdb: Cdb,
    sealed: bool,
    facts: Facts,
}

impl Users {
    /// Opens the database; one whose outer form is damaged is `InvalidData`.
    pub fn open(path: &Path) -> Result<Self> {
        // Where somebody has put a FIFO, opening it must not wait for its other end.
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)?;
        match file.metadata()?.is_file() {
            true => Self::of(file),
            false => Err(damaged("no plain file")),
        }
    }

    fn of(file: File) -> Result<Self> {
        let cdb = Cdb::of(file)?;
        check_form(cdb.file())?;
        let sealed = is_sealed(cdb.file())?;
        let facts = if sealed {
            let seal = cdb.get(b"", SEAL_MAX)?.ok_or_else(|| damaged("no seal"))?;
            Facts::parse(&seal).ok_or_else(|| damaged("seal"))?
        } else {
            Facts::of_unsealed(first_record(cdb.file())?)
        };
        Ok(Self { cdb, sealed, facts })
    }

    /// The descriptor of the open file.
    pub fn descriptor(&self) -> RawFd {
        self.cdb.file().as_raw_fd()
    }

    /// What is known about all records together.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The record of a login: as it was sent, else with its domain in lower case. A file that is damaged anywhere, now, is an error.
    pub fn find(&self, login: &[u8]) -> Result<Option<Record>> {
        self.find_by(login, || self.check_sum())
    }

    fn find_by(
        &self,
        login: &[u8],
        check_sum: impl FnOnce() -> Result<()>,
    ) -> Result<Option<Record>> {
        let found = self.value(login)?;
        if self.sealed {
            check_sum()?;
            // The sum is that of one moment: who writes over the file may have been at the record before or after it.
            if self.value(login)? != found {
                return Err(damaged("it is being written"));
            }
        }
        let Some(value) = found else { return Ok(None) };
        if !self.sealed && value.starts_with(record::FIRST_LINE.as_bytes()) {
            return Err(damaged("its seal is gone"));
        }
        Record::parse(&value).map(Some).map_err(|cause| damaged(&cause.0))
    }

    fn value(&self, login: &[u8]) -> Result<Option<Secret>> {
        if login.is_empty() {
            // That is the seal's key.
            return Ok(None);
        }
        let found = match self.cdb.get(login, RECORD_MAX)? {
            None => self.cdb.get(&lower_domain(login), RECORD_MAX)?,
            found => found,
        };
        Ok(found.map(Secret::new))
    }

    fn check_sum(&self) -> Result<()> {
        let mut stored = [0; SUM_HEX];
        self.cdb.file().read_exact_at(&mut stored, SUM_AT)?;
        let mut sum = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut at = 0;
        loop {
            // The sum itself is left out.
            let end = if at < SUM_AT { SUM_AT } else { u64::MAX };
            let room = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
            let read = self.cdb.file().read_at(chunk.get_mut(..room).unwrap_or_default(), at)?;
            if read == 0 {
                break;
            }
            sum.update(chunk.get(..read).unwrap_or_default());
            at = at.saturating_add(u64::try_from(read).unwrap_or(0));
            if at == SUM_AT {
                at = SUM_END;
            }
        }
        if text::hex(&sum.finalize()).as_bytes() == stored {
            Ok(())
        } else {
            Err(damaged("its sum is wrong"))
        }
    }
}

/// The bytes of a sealed database of these values.
pub fn compile(facts: &Facts, records: &[(Vec<u8>, Secret)]) -> Result<Vec<u8>> {
    let mut maker = Maker::new(Cursor::new(Vec::new()))?;
    maker.add(b"", &facts.seal())?;
    for (login, value) in records {
        maker.add(login, value)?;
    }
    let mut file = maker.finish()?.into_inner();
    let (start, end) = (index(SUM_AT), index(SUM_END));
    let mut sum = Sha256::new();
    sum.update(file.get(..start).unwrap_or_default());
    sum.update(file.get(end..).unwrap_or_default());
    let sum = text::hex(&sum.finalize());
    let place = file.get_mut(start..end).unwrap_or_default();
    place.iter_mut().zip(sum.bytes()).for_each(|(place, byte)| *place = byte);
    Ok(file)
}

/// A login as authcdb stores it: RFC 5321 2.4: local parts keep their case, domains have none.
pub fn lower_domain(login: &[u8]) -> Vec<u8> {
    let at = login.iter().rposition(|byte| *byte == b'@').unwrap_or(login.len());
    let (local, domain) = login.split_at_checked(at).unwrap_or((login, &[]));
    [local, &domain.to_ascii_lowercase()].concat()
}

/// Every maker writes the 256 tables one behind the other, up to the end of the file.
fn check_form(file: &File) -> Result<()> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let mut next = None;
    for [a, b, c, d, e, f, g, h] in header.as_chunks::<8>().0 {
        let table = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        let slots = u64::from(u32::from_le_bytes([*e, *f, *g, *h]));
        if table < FIRST_RECORD || next.is_some_and(|next| next != table) {
            return Err(damaged("its tables are not in line"));
        }
        next = Some(table.saturating_add(slots.saturating_mul(8)));
    }
    if next == Some(file.metadata()?.len()) { Ok(()) } else { Err(damaged("its length is wrong")) }
}

/// Whether there is a seal, even where a part of it is damaged.
fn is_sealed(file: &File) -> Result<bool> {
    let mut start = [0; 12];
    let read = file.read_at(&mut start, FIRST_RECORD)?;
    Ok(read == start.len() && (start.starts_with(&[0; 4]) || start.ends_with(SUM)))
}

fn first_record(file: &File) -> Result<Option<Record>> {
    let mut lengths = [0; 8];
    if file.read_at(&mut lengths, FIRST_RECORD)? < lengths.len() {
        return Ok(None);
    }
    let [a, b, c, d, e, f, g, h] = lengths;
    let key = u64::from(u32::from_le_bytes([a, b, c, d]));
    let length = u32::from_le_bytes([e, f, g, h]);
    let length = usize::try_from(length).ok().filter(|length| *length <= RECORD_MAX);
    let Some(length) = length else { return Ok(None) };
    let mut value = vec![0; length];
    let at = FIRST_RECORD.saturating_add(8).saturating_add(key);
    if file.read_exact_at(&mut value, at).is_err() {
        return Ok(None);
    }
    Ok(Record::parse(&Secret::new(value)).ok())
}

fn damaged(how: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("damaged users.cdb: {how}"))
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// A cdb: 256 pairs of words, then the records, each behind the lengths of its key and value.
const HEADER: usize = 2048;
const FIRST_RECORD: u64 = 2048;

/// The seal's key is empty, its value begins `sum=` and 64 hex digits.
const SUM: &[u8] = b"sum=";
const SUM_AT: u64 = 2048 + 8 + 4;
const SUM_END: u64 = SUM_AT + 64;

/// Longest value of a record in bytes: hashes and pages of variables.
pub const RECORD_MAX: usize = 16_384;

/// Longest seal: its decoy is a part of a record.
const SEAL_MAX: usize = RECORD_MAX + 1_024;

/// How much of the file is read at a time.
const CHUNK: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::cram::Context;
    use crate::facts::{Decoy, SECRET};
    use crate::scram::Verifier;

    /// openssl passwd -6 -salt salt tanstaaf
    const HASH: &str = "$6$salt$l271/oYV2tpo8BxsgiVsoA3s9GKIAZD4Oy7tzbmkv3xQnNg4HYmZ1Uv6VH6c7IcVZVGmYoY5K.XMK7C7yIU831";

    fn argon(hash: &str) -> Record {
        let hash = format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ${hash}");
        Record { password: Some(hash.as_bytes().into()), ..Record::default() }
    }

    fn sealed(records: &[(&str, Record)]) -> Vec<u8> {
        let facts =
            Facts::of(records.iter().map(|(_, record)| record), Secret::new(vec![7; SECRET]));
        let values: Vec<_> = records
            .iter()
            .map(|(login, record)| (login.as_bytes().to_vec(), record::value(&record.fields())))
            .collect();
        compile(&facts, &values).unwrap()
    }

    fn unsealed(records: &[(&str, &str)]) -> Vec<u8> {
        let mut maker = Maker::new(Cursor::new(Vec::new())).unwrap();
        for (login, value) in records {
            maker.add(login.as_bytes(), value.as_bytes()).unwrap();
        }
        maker.finish().unwrap().into_inner()
    }

    fn path(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("authcheck-store-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    fn users(name: &str, bytes: &[u8]) -> Result<Users> {
        let path = path(name);
        fs::write(&path, bytes).unwrap();
        let users = Users::open(&path);
        fs::remove_file(&path).unwrap();
        users
    }

    #[test]
    fn logins_are_found_as_sent_or_with_their_domain_in_lower_case() {
        let users =
            users("found", &sealed(&[("a@x.org", argon("aaaa")), ("B@x.org", argon("bbbb"))]))
                .unwrap();
        for (login, found) in [
            (&b"a@x.org"[..], Some("aaaa")),
            (b"a@X.ORG", Some("aaaa")),
            (b"A@x.org", None),
            (b"B@X.org", Some("bbbb")),
            (b"a", None),
            (b"", None),
        ] {
            let record = users.find(login).unwrap();
            let found = found.map(argon);
            assert_eq!(record, found, "{}", login.escape_ascii());
        }
    }

    #[test]
    fn every_damaged_byte_is_an_error_for_every_login() {
        let whole = sealed(&[("a@x.org", argon("aaaa")), ("b@x.org", argon("bbbb"))]);
        let refused = |bytes: &[u8], what: &str| {
            let Ok(users) = users("damaged", bytes) else { return };
            for login in ["a@x.org", "b@x.org", "nobody"] {
                assert!(users.find(login.as_bytes()).is_err(), "{what}: {login}");
            }
        };
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            refused(&damaged, &format!("byte {at}"));
            refused(&whole[..at], &format!("cut at {at}"));
        }
        refused(&[&whole[..], b"x"].concat(), "longer");
        refused(&vec![0; whole.len()], "zeroes");
    }

    #[test]
    fn damage_while_it_is_open_is_an_error() {
        let path = path("open");
        let whole = sealed(&[("a@x.org", argon("aaaa"))]);
        fs::write(&path, &whole).unwrap();
        let users = Users::open(&path).unwrap();
        assert!(users.find(b"a@x.org").unwrap().is_some());
        fs::write(&path, &whole[..2100]).unwrap();
        assert!(users.find(b"a@x.org").is_err());
        fs::remove_file(&path).unwrap();
    }

    // "being replaced: 454, never a success, never 535": not even where somebody copies over it instead of renaming.
    #[test]
    fn a_login_is_not_missing_from_a_file_that_is_being_written() {
        let path = path("written");
        let whole = sealed(&[("a@x.org", argon("aaaa"))]);
        let half = [&[0; HEADER][..], &whole[HEADER..]].concat();
        fs::write(&path, &whole).unwrap();
        let users = Users::open(&path).unwrap();
        let checked = |before: &[u8], after: &[u8]| {
            fs::write(&path, before).unwrap();
            users.find_by(b"a@x.org", || {
                fs::write(&path, &whole).unwrap();
                users.check_sum()?;
                fs::write(&path, after)
            })
        };
        assert_eq!(checked(&whole, &whole).unwrap(), Some(argon("aaaa")));
        assert!(checked(&half, &whole).is_err());
        assert!(checked(&whole, &half).is_err());
        fs::remove_file(&path).unwrap();
    }

    // Cut or zeroed, a file without a seal still shows in its form; a record of ours in it shows that the seal was there.
    #[test]
    fn files_of_other_makers() {
        let value = format!("{HASH},PASSWORD_EXPIRES=\"5\"");
        let whole = unsealed(&[("u", &value), ("v", "$6$s$h")]);
        let found = users("foreign", &whole).unwrap();
        assert_eq!(found.find(b"u").unwrap().unwrap().expires, Some(5));
        assert_eq!(found.find(b"w").unwrap(), None);
        assert_eq!(found.facts().decoy, Decoy::Hash(HASH.as_bytes().into()));
        assert_eq!((found.facts().scram, found.facts().cram), (None, false));
        for cut in 0..whole.len() {
            assert!(users("foreign-cut", &whole[..cut]).is_err());
        }
        let stripped = users("stripped", &unsealed(&[("u", "v=1\npw=$6$s$h\n")])).unwrap();
        assert!(stripped.find(b"u").is_err());
        // The hash of a kind that is not known here is no work that another login could take.
        let des = users("des", &unsealed(&[("u", "abJnggxhB/yWI"), ("v", HASH)])).unwrap();
        assert_eq!(des.facts().decoy, Decoy::default());
        let empty = users("empty", &unsealed(&[])).unwrap();
        assert_eq!(empty.find(b"u").unwrap(), None);
        assert_eq!(empty.facts().decoy, Decoy::default());
    }

    #[test]
    fn the_seal_keeps_the_facts() {
        let scram = |password: &[u8], iterations| Record {
            scram: Some(Verifier::new(password, b"salt", iterations)),
            ..Record::default()
        };
        let both = Record { scram: scram(b"x", 5000).scram, ..argon("aaaa") };
        let cram = Record { cram: Some(Context::of(b"x")), ..argon("bbbb") };
        for (records, decoy, offered, cram) in [
            (vec![("a", both)], argon("aaaa"), Some(5000), false),
            (
                vec![("a", scram(b"x", 5000)), ("b", argon("cccc")), ("c", argon("dddd"))],
                argon("dddd"),
                None,
                false,
            ),
            (vec![("a", cram)], argon("bbbb"), None, true),
        ] {
            let facts = users("facts", &sealed(&records)).unwrap().facts().clone();
            assert!(facts.decoy.same_work(&Decoy::of(&decoy).unwrap()));
            assert_eq!((facts.scram, facts.cram), (offered, cram));
            assert_eq!(facts.secret, Secret::new(vec![7; SECRET]));
        }
        let only = users("only", &sealed(&[("a", scram(b"x", 5000))])).unwrap();
        assert_eq!(only.facts().decoy, Decoy::Scram(5000));
    }
}
