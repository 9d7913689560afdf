//! Whether a recipient is taken: rcpthosts, validrcptto.cdb and the RCPTCHECK program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, stderr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use cdb::Cdb;
use plumb::errand::Errand;
use plumb::process::Ended;

use crate::rcpthosts::{Rcpthosts, is_valid_recipient};
use crate::replies::{self, Reply};

/// What decides over recipients.
#[derive(Debug, Default)]
pub struct Recipients {
    /// Whether RELAYCLIENT is set: then only RCPTCHECK is asked.
    pub relay_client: bool,
    /// For which domains mail is taken.
    pub hosts: Rcpthosts,
    /// Which mailboxes there are, if that is known.
    pub valid: Option<Cdb>,
    /// RCPTCHECK.
    pub check: Option<OsString>,
}

/// Who asks; RCPTCHECK gets it in its environment.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The recipient.
    pub address: &'a [u8],
    /// The sender.
    pub sender: &'a [u8],
    /// What the client called itself.
    pub helo: &'a [u8],
}

impl Recipients {
    /// Why the recipient is refused, or none; an error is a list that cannot be read.
    pub fn refuse(
        &self,
        asked: Asked<'_>,
        environment: &[(OsString, OsString)],
    ) -> io::Result<Option<Reply>> {
        if !self.relay_client {
            if !self.hosts.allow(asked.address)? {
                return Ok(Some(replies::NO_GATEWAY));
            }
            if let Some(cdb) = &self.valid
                && !is_valid_recipient(cdb, asked.address)?
            {
                return Ok(Some(replies::NO_SUCH_MAILBOX));
            }
        }
        match &self.check {
            Some(program) => Ok(refused_by(run(program, asked, environment, CHECK_TIME))),
            None => Ok(None),
        }
    }
}

/// 0 takes the recipient, 100 refuses it for good; whatever else happens may pass.
fn refused_by(ended: io::Result<Ended>) -> Option<Reply> {
    match ended {
        Ok(Ended::Code(0)) => None,
        Ok(Ended::Code(100)) => Some(replies::NO_SUCH_MAILBOX),
        _ => Some(replies::CANNOT_VERIFY),
    }
}

fn run(
    program: &OsStr,
    asked: Asked<'_>,
    environment: &[(OsString, OsString)],
    time: Duration,
) -> io::Result<Ended> {
    let mut environment = environment.to_vec();
    for (name, value) in
        [("SENDER", asked.sender), ("RECIPIENT", asked.address), ("HELO", asked.helo)]
    {
        environment.retain(|(other, _)| other != name);
        environment.push((name.into(), OsStr::from_bytes(value).into()));
    }
    let null = File::open("/dev/null")?;
    let log = stderr();
    let errand = Errand::start(program, &environment, &[(null.as_fd(), 0), (log.as_fd(), 1)])?;
    let now = Instant::now();
    match errand.wait_until(now.checked_add(time).unwrap_or(now))? {
        Some(ended) => Ok(ended),
        None => errand.end(Duration::from_secs(1)),
    }
}

/// A fifth of what a client waits for the answer to RCPT (RFC 5321 4.5.3.2.3: 5 minutes).
const CHECK_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(name: &str, text: &str) -> OsString {
        let path = std::env::temp_dir().join(format!("rcptcheck-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.into()
    }

    fn asked() -> Asked<'static> {
        Asked { address: b"to@example.org", sender: b"from@example.net", helo: b"client" }
    }

    fn judged(relay_client: bool, check: OsString) -> Option<Reply> {
        let hosts = Rcpthosts { hosts: vec![b"example.org".to_vec()], more: None };
        let recipients = Recipients { relay_client, hosts, valid: None, check: Some(check) };
        recipients.refuse(asked(), &[("SENDER".into(), "old".into())]).unwrap()
    }

    #[test]
    fn exit_codes() {
        for (code, reply) in [
            (0, None),
            (100, Some(replies::NO_SUCH_MAILBOX)),
            (111, Some(replies::CANNOT_VERIFY)),
            (120, Some(replies::CANNOT_VERIFY)),
            (1, Some(replies::CANNOT_VERIFY)),
        ] {
            let check = script(&format!("code{code}"), &format!("exit {code}"));
            assert_eq!(judged(false, check), reply, "{code}");
        }
        assert_eq!(judged(false, script("dead", "kill -9 $$")), Some(replies::CANNOT_VERIFY));
        assert_eq!(judged(false, "/nonexistent/x".into()), Some(replies::CANNOT_VERIFY));
    }

    #[test]
    fn it_learns_who_asks_and_is_asked_about_relayed_mail_too() {
        let check = script(
            "env",
            "[ \"$SENDER $RECIPIENT $HELO\" = \"from@example.net to@example.org client\" ] || exit 100",
        );
        assert_eq!(judged(false, check.clone()), None);
        assert_eq!(judged(true, check), None);
        assert!(judged(true, script("no", "exit 100")).is_some());
    }

    #[test]
    fn one_that_hangs_is_a_temporary_failure() {
        let hangs = script("hangs", "exec sleep 1000");
        let ended =
            run(&hangs, asked(), &[("PATH".into(), "/bin:/usr/bin".into())], Duration::ZERO);
        assert_eq!(refused_by(ended), Some(replies::CANNOT_VERIFY));
    }
}
