//! One session, without input or output: what each command means, and what is to be done for it.

use std::net::IpAddr;

use wire::Line;

use crate::auth::Account;
use crate::control;
use crate::policy::Policy;
use crate::received::Trace;
use crate::replies::{self, Reply};

/// What the session does not change: who speaks here, to whom, and under which rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// control/smtpgreeting.
    pub greeting: String,
    /// control/databytes, in bytes; 0 is no limit.
    pub databytes: u64,
    /// control/badmailfrom.
    pub bad_senders: Vec<Vec<u8>>,
    /// What RELAYCLIENT appends to every recipient, where it is set.
    pub relay_client: Option<Vec<u8>>,
    /// The address on this side, and control/localiphost, that stands for it in envelopes.
    pub local_literal: Option<(IpAddr, Vec<u8>)>,
    /// TLS and AUTH.
    pub policy: Policy,
    /// What the password process can do now, by name; none where it does not say.
    pub mechanisms: Option<Vec<String>>,
    /// What is known of the connection.
    pub facts: Facts,
}

/// What is known of the connection, for the Received line.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Name of the client.
    pub remote_host: Option<Vec<u8>>,
    /// Address of the client.
    pub remote_ip: Option<Vec<u8>>,
    /// User on the client's side.
    pub remote_info: Option<Vec<u8>>,
    /// Name or address on this side.
    pub local: Option<Vec<u8>>,
    /// Version and cipher of TLS, where what is read came through it; perhaps empty.
    pub tls: Option<Vec<u8>>,
}

/// Sender and recipients of one message, as qmail-queue wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Empty for bounces.
    pub sender: Vec<u8>,
    /// At most `RECIPIENT_LIMIT`.
    pub recipients: Vec<Vec<u8>>,
    /// Whether a part of the message has come by BDAT.
    pub(crate) chunks: bool,
}

/// What is to be done for a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Say this at once (RFC 2920 3.2).
    Reply(Reply),
    /// Say this; it may wait for the replies to what was pipelined behind it.
    Pipelined(Reply),
    /// Find out whether this recipient is taken, then call `judged`.
    Judge(Vec<u8>),
    /// Take the message in, up to CRLF.CRLF, then call `over`.
    Body,
    /// Take so many octets into the message; call `over` if it is the last chunk or has failed.
    Chunk { size: u64, last: bool },
    /// Read so many octets and forget them, then say this (RFC 3030 4.2).
    Skip { size: u64, reply: Reply },
    /// Say 220, then let the UCSPI-TLS server begin.
    StartTls,
    /// Have the password process judge the client, by this mechanism and with these arguments; then call `authenticated` or `refused`.
    Authenticate { mechanism: String, arguments: Vec<u8> },
    /// Say this and end.
    Quit(Reply),
}

/// The state of one session.
#[derive(Debug, Default)]
pub struct Session {
    pub(crate) rules: Rules,
    pub(crate) helo: Option<Vec<u8>>,
    pub(crate) extended: bool,
    pub(crate) envelope: Option<Envelope>,
    /// Who has authenticated.
    pub(crate) login: Option<Vec<u8>>,
    errors: u32,
}

impl Session {
    /// A session that has just been greeted.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The first line of the session.
    pub fn greeting(&self) -> Reply {
        replies::greeting(&self.rules.greeting)
    }

    /// Takes in one command line.
    pub fn line(&mut self, line: &Line<'_>) -> Action {
        if self.errors >= ERROR_LIMIT {
            return Action::Quit(replies::TOO_MANY_ERRORS);
        }
        match line {
            Line::Clean(line) => self.command(line),
            Line::Nul(_) => self.refuse(replies::NUL_IN_LINE),
            Line::Bare(_) => self.refuse(replies::BARE_LINE),
            // Which command it was is gone; only AUTH may be nearly as long.
            Line::TooLong => self.refuse(replies::AUTH_TOO_LONG),
        }
    }

    /// Takes in whether a recipient is refused, and gives the answer to RCPT.
    pub fn judged(&mut self, address: Vec<u8>, refused: Option<Reply>) -> Reply {
        if let Some(reply) = refused {
            return self.count(reply);
        }
        if let Some(envelope) = &mut self.envelope {
            envelope.recipients.push(address);
        }
        replies::RECIPIENT_OK
    }

    /// Takes in what became of the message, and gives the answer back; the transaction is over.
    pub fn over(&mut self, outcome: Reply) -> Reply {
        self.envelope = None;
        if outcome.is_success() {
            self.errors = 0;
        }
        self.count(outcome)
    }

    /// Takes in what the password process can do.
    pub fn offer(&mut self, mechanisms: Vec<String>) {
        self.rules.mechanisms = Some(mechanisms);
    }

    /// Takes in who the client is, and gives the answer to AUTH; from now on it may relay.
    pub fn authenticated(&mut self, account: &Account) -> Reply {
        self.login = Some(account.login.clone());
        self.rules.facts.remote_info = Some(account.login.clone());
        self.rules.relay_client =
            Some(account.variable("RELAYCLIENT").unwrap_or_default().to_vec());
        if let Some(databytes) = account.variable("DATABYTES") {
            // authcdb does not know what a variable means: what is no number is no limit to go by.
            self.rules.databytes = control::parse(databytes).unwrap_or(self.rules.databytes);
        }
        replies::AUTHENTICATED
    }

    /// Takes in that AUTH has failed, and gives the answer back.
    pub fn refused(&mut self, reply: Reply) -> Reply {
        self.count(reply)
    }

    /// Sender and recipients, while there is a transaction.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_ref()
    }

    /// Whether a message has begun by BDAT and goes on.
    pub fn in_chunks(&self) -> bool {
        self.envelope.as_ref().is_some_and(|envelope| envelope.chunks)
    }

    /// What the client called itself.
    pub fn helo(&self) -> Option<&[u8]> {
        self.helo.as_deref()
    }

    /// The limit for a message in bytes, 0 for none.
    pub fn databytes(&self) -> u64 {
        self.rules.databytes
    }

    /// What the Received line tells.
    pub fn trace(&self) -> Trace<'_> {
        let facts = &self.rules.facts;
        Trace {
            remote_host: facts.remote_host.as_deref(),
            remote_ip: facts.remote_ip.as_deref(),
            remote_info: facts.remote_info.as_deref(),
            local: facts.local.as_deref(),
            helo: self.helo.as_deref(),
            extended: self.extended,
            authenticated: self.login.is_some(),
            tls: facts.tls.as_deref(),
        }
    }

    /// The session after a handshake: all that the client said is forgotten (RFC 3207 4.2).
    pub fn after_handshake(self, tls: Vec<u8>) -> Self {
        let mut rules = self.rules;
        rules.policy = rules.policy.after_handshake();
        rules.facts.tls = Some(tls);
        Self::new(rules)
    }

    /// A refusal; whether it may wait is the command table's matter.
    pub(crate) fn refuse(&mut self, reply: Reply) -> Action {
        Action::Reply(self.count(reply))
    }

    pub(crate) fn count(&mut self, reply: Reply) -> Reply {
        if reply.is_error() {
            self.errors = self.errors.saturating_add(1);
        }
        reply
    }
}

/// Errors between two accepted messages; after so many a client is not a mail program.
const ERROR_LIMIT: u32 = 20;
