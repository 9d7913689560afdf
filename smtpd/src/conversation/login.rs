//! AUTH: lines between the client and the password process, and what success changes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use wire::Line;

use super::{Conversation, Next};
use crate::auth::{Account, Answer, PasswordProcess};
use crate::client::End;
use crate::replies::{self, Reply};

impl Conversation {
    /// Nothing is offered that the password process, where there is one, does not have.
    pub(super) fn learn_mechanisms(&mut self) {
        match self.password_process.as_mut().map(PasswordProcess::mechanisms) {
            Some(Ok(mechanisms)) => self.session.offer(mechanisms),
            Some(Err(error)) => self.log.line(format!("no password process: {error}")),
            None => {}
        }
    }

    pub(super) fn authenticate(&mut self, mechanism: &str, arguments: &[u8]) -> Result<Next, End> {
        let Some(mut process) = self.password_process.take() else {
            self.answer(&replies::NO_AUTH_NOW)?;
            return Ok(Next::Command);
        };
        let name = mechanism.as_bytes();
        let mut words = vec![&b"AUTH"[..], name];
        if !arguments.is_empty() {
            words.push(arguments);
        }
        let mut answer = process.ask(&words);
        while let Ok(Answer::Challenge(challenge)) = answer {
            self.client.say(&challenge)?;
            answer = match self.response()? {
                Ok(response) => process.ask(&[b"LINE", &response]),
                Err(refusal) => process
                    .ask(&[b"CANCEL"])
                    .map(|cancelled| refusal.map_or(cancelled, Answer::Refused)),
            };
        }
        let reply = match answer {
            Ok(Answer::Accepted(account)) => self.accept(mechanism, &account),
            Ok(Answer::Refused(reply) | Answer::Challenge(reply)) => self.session.refused(reply),
            Err(error) => {
                self.log.line(format!("password process ended: {error}"));
                self.note_and_say(&replies::NO_MORE_AUTH)?;
                return Ok(Next::Nothing);
            }
        };
        self.password_process = Some(process);
        self.answer(&reply)?;
        Ok(Next::Command)
    }

    /// The client's answer to a challenge; or that it gives up, with a reply of our own where its line is none.
    fn response(&mut self) -> Result<Result<Vec<u8>, Option<Reply>>, End> {
        loop {
            match self.client.next_line() {
                Some(Line::Clean(b"*")) => return Ok(Err(None)),
                Some(Line::Clean(line)) => return Ok(Ok(line.to_vec())),
                Some(Line::TooLong) => return Ok(Err(Some(replies::AUTH_TOO_LONG))),
                Some(Line::Nul(_)) => return Ok(Err(Some(replies::NUL_IN_LINE))),
                Some(Line::Bare(_)) => return Ok(Err(Some(replies::BARE_LINE))),
                None => self.client.fill()?,
            }
        }
    }

    /// What the queue program and RCPTCHECK learn of the account.
    fn accept(&mut self, mechanism: &str, account: &Account) -> Reply {
        let login = account.login.as_slice();
        let method = mechanism.to_ascii_lowercase();
        let relay = account.variable("RELAYCLIENT").unwrap_or_default();
        let told = account.variables.iter().map(|(name, value)| (name.as_str(), &value[..]));
        let ours = [
            ("RELAYCLIENT", relay),
            ("TCPREMOTEINFO", login),
            ("SMTPAUTHUSER", login),
            ("SMTP_AUTH_USER", login),
            ("SMTPAUTHMETHOD", method.as_bytes()),
        ];
        for (name, value) in told.chain(ours) {
            self.environment.retain(|(other, _)| other != name);
            self.environment.push((name.into(), OsStr::from_bytes(value).into()));
        }
        self.recipients.relay_client = true;
        self.session.authenticated(account)
    }
}
