//! `--check`: what a session would do with the control files and the environment, and what it would not.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use plumb::log::value;
use plumb::{Error, Result};

use crate::policy::Policy;
use crate::settings::Settings;

/// Lines for the administrator, and how many of them are problems.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<String>,
    problems: usize,
}

impl Report {
    /// Reads everything as a session would; the current folder is QMAILHOME afterwards.
    pub fn new(
        policy: Result<Policy>,
        settings: impl FnOnce(Policy) -> Result<Settings>,
        variables: impl Iterator<Item = OsString>,
    ) -> Report {
        let mut report = Report::default();
        match policy.and_then(settings) {
            Ok(settings) => report.describe(&settings),
            Err(error) => report.problem(&error),
        }
        report.ignored(variables);
        report
    }

    /// The text, its last line saying whether anything must be mended.
    pub fn text(&self) -> String {
        let last = match self.problems {
            0 => "no problems".to_owned(),
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        self.lines.iter().chain([&last]).map(|line| format!("{line}\n")).collect()
    }

    /// Whether anything must be mended.
    pub fn has_problems(&self) -> bool {
        self.problems > 0
    }

    fn say(&mut self, what: &str, line: String) {
        self.lines.push(format!("{what:<12}{line}"));
    }

    fn problem(&mut self, error: &Error) {
        self.problems = self.problems.saturating_add(1);
        self.say("PROBLEM", error.to_string());
    }

    fn describe(&mut self, settings: &Settings) {
        let rules = &settings.rules;
        self.say("greeting", format!("220 {} ESMTP", rules.greeting));
        self.say("policy", policy_words(&rules.policy));
        self.say("mail for", destinations(settings));
        let valid = settings.recipients.valid.is_some();
        self.say("mailboxes", if valid { "those of validrcptto.cdb" } else { "all" }.to_owned());
        if let Some(program) = &settings.recipients.check {
            self.say("asks", format!("{} (RCPTCHECK)", program.display()));
        }
        let patterns = rules.bad_senders.iter().filter(|line| is_pattern(line)).count();
        let senders = rules.bad_senders.len().saturating_sub(patterns);
        self.say("refuses", format!("{senders} senders of badmailfrom"));
        if patterns > 0 {
            self.say("not used", format!("{patterns} lines of badmailfrom: they are patterns"));
        }
        let size = match rules.databytes {
            0 => "any".to_owned(),
            bytes => format!("at most {bytes} bytes"),
        };
        self.say("size", size);
        self.say("waits", format!("{} s for the client", settings.timeout.as_secs()));
        if let Some((address, name)) = &rules.local_literal {
            self.say("literal", format!("[{address}] is {}", value(name, 255)));
        }
        self.say("hands to", settings.queue.display().to_string());
        if !is_program(&settings.queue) {
            self.problem(&Error::permanent("QMAILQUEUE cannot be run: all mail will get 451"));
        }
    }

    /// Names what patches of qmail-smtpd read and this program does not.
    fn ignored(&mut self, variables: impl Iterator<Item = OsString>) {
        let place = |name: &&str| match name.contains('/') {
            true => (*name).to_owned(),
            false => format!("control/{name}"),
        };
        let files = IGNORED_FILES.iter().map(place).filter(|path| Path::new(path).exists());
        let files: Vec<String> = files.collect();
        let mut names: Vec<String> = variables
            .filter_map(|name| name.into_string().ok())
            .filter(|name| is_ignored(name))
            .collect();
        names.sort();
        if !files.is_empty() {
            self.say("not read", files.join(" "));
        }
        if !names.is_empty() {
            self.say("not used", names.join(" "));
        }
    }
}

fn policy_words(policy: &Policy) -> String {
    let tls = match (policy.in_tls, policy.force_tls, policy.offers_tls) {
        (true, _, _) => "inside TLS",
        (_, true, _) => "TLS required",
        (_, _, true) => "TLS offered",
        _ => "in clear",
    };
    let auth = if policy.auth_needs_tls() { "AUTH only inside TLS" } else { "AUTH where offered" };
    let mail = if policy.require_auth { "AUTH required for any mail" } else { "mail without AUTH" };
    format!("{tls}; {auth}; {mail}")
}

fn destinations(settings: &Settings) -> String {
    let hosts = &settings.recipients.hosts;
    let more = if hosts.more.is_some() { " and morercpthosts.cdb" } else { "" };
    match (settings.recipients.relay_client, hosts.hosts.len()) {
        (true, _) => "any domain: RELAYCLIENT is set".to_owned(),
        (false, 0) => "the postmaster alone: control/rcpthosts is missing or empty".to_owned(),
        (false, count) => format!("{count} domains of control/rcpthosts{more}"),
    }
}

/// Whether this could be run: QMAILQUEUE is a path, without arguments, as in qmail.
fn is_program(queue: &OsStr) -> bool {
    let found = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    found(&PathBuf::from(queue))
}

/// Whether this is a line for a patch that takes regular expressions: here it could be no sender.
fn is_pattern(line: &[u8]) -> bool {
    line.starts_with(b"!")
        || !line.contains(&b'@')
        || line.iter().any(|b| b"*[]^$|()\\".contains(b))
}

fn is_ignored(name: &str) -> bool {
    IGNORED_VARIABLES.contains(&name)
        || IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Of chkuser, validrcptto, SPF, DNSBL, TLS and AUTH patches, s/qmail and sagredo's qmail.
const IGNORED_FILES: [&str; 36] = [
    "authservid",
    "badhelo",
    "badhelonorelay",
    "badloadertypes",
    "badmailfromnorelay",
    "badmimetypes",
    "badrcptto",
    "badrcpttonorelay",
    "brtlimit",
    "clientca.pem",
    "clientcrl.pem",
    "dh1024.pem",
    "dh2048.pem",
    "dh512.pem",
    "dnsblfailclosed",
    "dnsbllist",
    "maxrcpt",
    "morevalidrcptto.cdb",
    "recipients",
    "recipients.cdb",
    "rejectnullsenders",
    "rejectrelaytest",
    "rsa2048.pem",
    "rsa512.pem",
    "servercert.pem",
    "servercerts",
    "smtpplugins",
    "spfbehavior",
    "spfexp",
    "spfguess",
    "spfrules",
    "taps",
    "tlsclients",
    "tlsserverciphers",
    "validrcptto",
    "users/authuser",
];

/// Of chkuser, jms1's settings for whoever has logged in, and switches that turn off what is not here.
const IGNORED_PREFIXES: [&str; 4] = ["AUTH_SET_", "AUTH_UNSET_", "CHKUSER_", "DISABLE_"];

/// The same patches' switches and settings, and indimail's.
const IGNORED_VARIABLES: [&str; 43] = [
    "ALLOW_BARELF",
    "ALLOW_CRAM",
    "BADLOADERTYPE",
    "BADMIMETYPE",
    "BASE64",
    "BRTLIMIT",
    "DELIVERTO",
    "DNSBLFAILCLOSED",
    "DNSBLLIST",
    "DNSBLSKIP",
    "DROP_PRE_GREET",
    "ERROR_FD",
    "FORCEAUTHMAILFROM",
    "GREETDELAY",
    "HELOCHECK",
    "LOCALMFCHECK",
    "LOGREGEX",
    "MAXRCPT",
    "MAXRECIPIENTS",
    "MFCHECK",
    "MFDNSCHECK",
    "MOREVALIDRCPTTO_CDB",
    "NOBADHELO",
    "OLD_CLIENT",
    "QHPSI",
    "QMAILSMTPD_HELP_VERSION",
    "RBLSMTPD",
    "REJECTNULLSENDERS",
    "RELAYREJ",
    "SECURE_AUTH",
    "SMTPD_GREETDELAY",
    "SMTPGREETING",
    "SMTPS",
    "SPF",
    "SPFBEHAVIOR",
    "STARTTLS",
    "TARPITCOUNT",
    "TARPITDELAY",
    "TLSCIPHERS",
    "TLS_PROVIDER",
    "VALIDRCPTTO",
    "VALIDRCPTTO_LIMIT",
    "VALIDRCPTTO_LOG",
];
