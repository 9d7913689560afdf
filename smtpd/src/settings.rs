//! The environment and the control files, read once at the start.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cdb::Cdb;
use plumb::errand::environment;
use plumb::ucspi::{Ucspi, connid};
use plumb::{Doing, Error, Result};

use crate::control;
use crate::policy::Policy;
use crate::rcpthosts::Rcpthosts;
use crate::recipients::Recipients;
use crate::session::{Facts, Rules};

/// All that a session is told from outside.
#[derive(Debug)]
pub struct Settings {
    /// What the session itself goes by.
    pub rules: Rules,
    /// Who may be written to.
    pub recipients: Recipients,
    /// QMAILQUEUE.
    pub queue: OsString,
    /// What QMAILQUEUE and RCPTCHECK are given.
    pub environment: Vec<(OsString, OsString)>,
    /// control/timeoutsmtpd.
    pub timeout: Duration,
    /// CONNID.
    pub connid: String,
}

impl Settings {
    /// Changes to QMAILHOME and reads what is there.
    pub fn read(policy: Policy, env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let home = env("QMAILHOME").unwrap_or_else(|| "/var/qmail".into());
        std::env::set_current_dir(&home).doing(format!("change to {}", home.display()))?;
        let ucspi = Ucspi::of_process();
        let connid = connid(env("CONNID").as_deref(), SystemTime::now(), std::process::id());
        let relay_client = env("RELAYCLIENT").map(OsString::into_vec);
        let recipients = Recipients {
            relay_client: relay_client.is_some(),
            hosts: rcpthosts()?,
            valid: validrcptto(env("VALIDRCPTTO_CDB"))?,
            check: env("RCPTCHECK").filter(|program| !program.is_empty()),
        };
        let mut set = ucspi.set.clone();
        set.push(("CONNID", connid.clone().into()));
        Ok(Self {
            rules: Rules {
                relay_client,
                facts: facts(&ucspi, &env),
                ..rules(policy, &ucspi, env("DATABYTES"))?
            },
            recipients,
            queue: env("QMAILQUEUE").unwrap_or_else(|| "bin/qmail-queue".into()),
            environment: environment(&NOT_FOR_CHILDREN, set),
            timeout: timeout()?,
            connid,
        })
    }
}

fn rules(policy: Policy, ucspi: &Ucspi, databytes: Option<OsString>) -> Result<Rules> {
    let me = line("me")?;
    let greeting = line("smtpgreeting")?
        .or_else(|| me.clone())
        .ok_or_else(|| Error::permanent("neither control/smtpgreeting nor control/me is there"))?;
    let local_name = line("localiphost")?.or(me);
    Ok(Rules {
        greeting: printable(&greeting),
        databytes: size_limit(databytes)?,
        bad_senders: lines("badmailfrom")?.unwrap_or_default(),
        relay_client: None,
        local_literal: ucspi.local_ip.zip(local_name),
        policy,
        mechanisms: None,
        facts: Facts::default(),
    })
}

fn facts(ucspi: &Ucspi, env: impl Fn(&str) -> Option<OsString>) -> Facts {
    let bytes = |value: &Option<OsString>| value.clone().map(OsString::into_vec);
    let ip = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string().into_bytes());
    let protocol = env("SSL_PROTOCOL");
    let cipher = env("SSL_CIPHER").unwrap_or_default();
    let in_tls = protocol.is_some() || plumb::ucspi::switch(env("SSL").as_deref());
    Facts {
        remote_host: bytes(&ucspi.remote_host),
        remote_ip: ip(ucspi.remote_ip),
        remote_info: bytes(&ucspi.remote_info),
        local: bytes(&ucspi.local_host).or(ip(ucspi.local_ip)),
        tls: in_tls.then(|| tls_words(&protocol.unwrap_or_default(), &cipher)),
    }
}

/// Version and cipher as they stand in the Received line.
pub fn tls_words(protocol: &OsStr, cipher: &OsStr) -> Vec<u8> {
    [protocol.as_bytes(), cipher.as_bytes()].join(&b' ').trim_ascii().to_vec()
}

/// DATABYTES goes before control/databytes.
fn size_limit(variable: Option<OsString>) -> Result<u64> {
    match variable.filter(|value| !value.is_empty()) {
        Some(value) => {
            control::parse(value.as_bytes()).doing("use DATABYTES").map_err(Error::permanently)
        }
        None => Ok(number("databytes")?.unwrap_or(0)),
    }
}

fn timeout() -> Result<Duration> {
    Ok(Duration::from_secs(number("timeoutsmtpd")?.unwrap_or(TIMEOUT).clamp(1, LONGEST)))
}

/// As in qmail, morercpthosts.cdb counts only beside rcpthosts.
fn rcpthosts() -> Result<Rcpthosts> {
    let Some(hosts) = lines("rcpthosts")? else { return Ok(Rcpthosts::default()) };
    let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    Ok(Rcpthosts { hosts, more: optional(&control_path("morercpthosts.cdb"))? })
}

/// VALIDRCPTTO_CDB goes before control/validrcptto.cdb; empty, it switches the list off.
fn validrcptto(variable: Option<OsString>) -> Result<Option<Cdb>> {
    match variable {
        Some(path) if path.is_empty() => Ok(None),
        Some(path) => {
            Cdb::open(Path::new(&path)).doing(format!("open {}", path.display())).map(Some)
        }
        None => optional(&control_path("validrcptto.cdb")),
    }
}

fn optional(path: &Path) -> Result<Option<Cdb>> {
    match Cdb::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.doing(format!("open {}", path.display())).map(Some),
    }
}

fn line(name: &str) -> Result<Option<Vec<u8>>> {
    Ok(reading(name, control::line)?.filter(|line| !line.is_empty()))
}

fn lines(name: &str) -> Result<Option<Vec<Vec<u8>>>> {
    reading(name, control::lines)
}

fn number(name: &str) -> Result<Option<u64>> {
    reading(name, control::number)
}

fn reading<T>(name: &str, read: impl Fn(&Path) -> io::Result<T>) -> Result<T> {
    read(&control_path(name)).doing(format!("read control/{name}"))
}

fn control_path(name: &str) -> PathBuf {
    Path::new("control").join(name)
}

/// The greeting is part of replies.
fn printable(line: &[u8]) -> String {
    line.iter()
        .map(|&byte| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '?' })
        .collect()
}

/// Descriptors that end here, and what only AUTH in this session may say.
const NOT_FOR_CHILDREN: [&str; 7] = [
    "SASLFD",
    "SSLCTLFD",
    "SSLREADFD",
    "SSLWRITEFD",
    "SMTPAUTHUSER",
    "SMTP_AUTH_USER",
    "SMTPAUTHMETHOD",
];

/// RFC 5321 4.5.3.2.7: at least 5 minutes, in seconds.
const TIMEOUT: u64 = 300;

/// A day in seconds; a session ends long before.
const LONGEST: u64 = 86_400;
