//! authcdb compiles records to the users.cdb that authcheck reads.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use authcheck::cost;
use authcheck::facts::{Facts, SECRET};
use authcheck::password::Unable;
use authcheck::record::{self, Record};
use authcheck::secret::Secret;
use authcheck::store::{self, Users, lower_domain};
use authcheck::verify::is_login;
use plumb::{Doing, Error, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report("authcdb"),
    }
}

fn run() -> Result<()> {
    plumb::process::begin()?;
    let (text, users) = arguments()?;
    let text = Secret::new(fs::read(&text).doing(format!("read {}", text.display()))?);
    let entries = entries(&text)?;
    let facts = Facts::of(entries.iter().map(|entry| &entry.record), secret(&users)?);
    let values: Vec<_> = entries.into_iter().map(|entry| (entry.login, entry.value)).collect();
    let doing = || format!("write {}", users.display());
    let bytes = Secret::new(store::compile(&facts, &values).doing(doing())?);
    cdb::replace_by(&users, MODE, |file| file.write_all(&bytes)).doing(doing())
}

/// One line of the text.
struct Entry {
    login: Vec<u8>,
    record: Record,
    value: Secret,
}

/// Every line but empty ones and those that begin with `#`.
fn entries(text: &[u8]) -> Result<Vec<Entry>> {
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for (line, number) in text.split(|byte| *byte == b'\n').zip(1_u64..) {
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let entry = Entry::parse(line).and_then(|entry| match seen.insert(entry.login.clone()) {
            true => Ok(entry),
            false => Err("this login was there before".into()),
        });
        entries.push(entry.map_err(|why| Error::permanent(format!("line {number}: {why}")))?);
    }
    Ok(entries)
}

impl Entry {
    /// `LOGIN TAB FIELD TAB FIELD ...`, or `LOGIN TAB VALUE` with a value as AUTH_CDB files have it.
    fn parse(line: &[u8]) -> std::result::Result<Self, String> {
        let line = str::from_utf8(line).map_err(|_| "not UTF-8")?;
        let (login, rest) = line.split_once('\t').ok_or("no tab after the login")?;
        let login = lower_domain(login.as_bytes());
        if !is_login(&login) {
            return Err("not a login".into());
        }
        let value = match rest.starts_with('$') {
            true => Secret::from(rest.as_bytes()),
            false => {
                let fields: Vec<_> =
                    rest.split('\t').map(|field| Secret::from(field.as_bytes())).collect();
                record::value(&fields)
            }
        };
        if value.len() > store::RECORD_MAX {
            return Err("the record is too long".into());
        }
        let record = Record::parse(&value).map_err(|damaged| damaged.0)?;
        check(&record)?;
        Ok(Self { login, record, value })
    }
}

/// What no record that can be used lacks.
fn check(record: &Record) -> std::result::Result<(), &'static str> {
    if let Some(hash) = &record.password {
        cost::check(hash.text().unwrap_or_default()).map_err(Unable::word)?;
    }
    if record.password.is_none() && record.scram.is_none() && record.cram.is_none() {
        return Err("no password");
    }
    if record.uid.is_some() != record.gid.is_some() {
        return Err("uid and gid go together");
    }
    Ok(())
}

/// The secret of the file that is replaced, so that the salts of logins that do not exist stay; else a new one.
fn secret(users: &Path) -> Result<Secret> {
    match Users::open(users) {
        Ok(users) if users.facts().secret.len() == SECRET => {
            return Ok(users.facts().secret.clone());
        }
        Err(cause)
            if ![ErrorKind::NotFound, ErrorKind::InvalidData, ErrorKind::UnexpectedEof]
                .contains(&cause.kind()) =>
        {
            return Err(cause).doing(format!("read {}", users.display()));
        }
        _ => {}
    }
    let mut secret = vec![0; SECRET];
    plumb::random::fill(&mut secret).doing("get random bytes")?;
    Ok(Secret::new(secret))
}

fn arguments() -> Result<(PathBuf, PathBuf)> {
    let mut names: Vec<OsString> = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
        match argument {
            lexopt::Arg::Value(name) => names.push(name),
            other => return Err(usage(&other.unexpected().to_string())),
        }
    }
    let [text, users] = &names[..] else { return Err(usage("two files are wanted")) };
    Ok((text.into(), users.into()))
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: authcdb records users.cdb"))
}

/// Permissions of a new users.cdb: its owner's alone; one that is replaced keeps its own.
const MODE: u32 = 0o600;
