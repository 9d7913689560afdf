//! The commands: who may use them when, and what each does to the session.

use wire::{BadPath, Command, Verb};

use crate::parameters;
use crate::rcpthosts;
use crate::replies::{self, Reply};
use crate::session::{Action, Envelope, Session};

/// One row of the command table.
struct Rule {
    verb: Verb,
    /// Whether it is allowed where FORCE_TLS waits for TLS.
    before_tls: bool,
    /// Whether it takes no arguments (RFC 5321 4.1.1: 501 where there are some).
    bare: bool,
    /// Whether its reply may wait for those to what is pipelined behind it (RFC 2920 3.2).
    waits: bool,
    run: fn(&mut Session, &[u8]) -> Action,
}

const fn rule(
    verb: Verb,
    before_tls: bool,
    bare: bool,
    waits: bool,
    run: fn(&mut Session, &[u8]) -> Action,
) -> Rule {
    Rule { verb, before_tls, bare, waits, run }
}

#[rustfmt::skip]
const COMMANDS: [Rule; 15] = [
    //                before TLS,  bare,  waits
    rule(Verb::Helo,     false,  false,  false, |session, args| session.greet(args, false)),
    rule(Verb::Ehlo,     true,   false,  false, |session, args| session.greet(args, true)),
    rule(Verb::Mail,     false,  false,  true,  Session::mail),
    rule(Verb::Rcpt,     false,  false,  true,  Session::rcpt),
    rule(Verb::Data,     false,  true,   false, |session, _| session.data()),
    rule(Verb::Bdat,     false,  false,  false, Session::bdat),
    rule(Verb::Rset,     false,  true,   true,  |session, _| session.rset()),
    rule(Verb::Noop,     true,   false,  false, |_, _| Action::Reply(replies::OK)),
    rule(Verb::Vrfy,     false,  false,  false, |_, _| Action::Reply(replies::VRFY)),
    rule(Verb::Expn,     false,  false,  false, |session, _| session.refuse(replies::UNIMPLEMENTED)),
    rule(Verb::Help,     false,  false,  false, |_, _| Action::Reply(replies::HELP)),
    rule(Verb::Quit,     true,   true,   false, |session, _| session.quit()),
    rule(Verb::Auth,     false,  false,  false, Session::auth),
    rule(Verb::StartTls, true,   true,   false, |session, _| session.start_tls()),
    rule(Verb::Other,    false,  false,  false, |session, _| session.refuse(replies::UNRECOGNISED)),
];

impl Session {
    /// Takes in a command line without its end.
    pub(crate) fn command(&mut self, line: &[u8]) -> Action {
        let Command { verb, args } = Command::parse(line);
        if line.len() > COMMAND_LIMIT && verb != Verb::Auth {
            return self.refuse(replies::LINE_TOO_LONG);
        }
        if verb == Verb::Other && line.windows(HTTP.len()).any(|part| part == HTTP) {
            return Action::Quit(replies::NO_WEB_SERVER);
        }
        let Some(rule) = COMMANDS.iter().find(|rule| rule.verb == verb) else {
            return self.refuse(replies::UNRECOGNISED);
        };
        let action = if self.rules.policy.force_tls && !rule.before_tls {
            match verb {
                Verb::Bdat => self.skip(args, replies::TLS_FIRST),
                _ => self.refuse(replies::TLS_FIRST),
            }
        } else if rule.bare && !args.is_empty() {
            self.refuse(replies::SYNTAX)
        } else {
            (rule.run)(self, args)
        };
        match action {
            Action::Reply(reply) if rule.waits => Action::Pipelined(reply),
            other => other,
        }
    }

    fn greet(&mut self, name: &[u8], extended: bool) -> Action {
        if name.is_empty() || name.len() > NAME_LIMIT {
            return self.refuse(replies::NO_NAME);
        }
        self.envelope = None;
        self.helo = Some(name.to_vec());
        self.extended = extended;
        let greeting = &self.rules.greeting;
        Action::Reply(if extended {
            replies::ehlo(greeting, &self.extensions())
        } else {
            replies::helo(greeting)
        })
    }

    /// What is offered is true, and a stock qmail-queue can carry it.
    fn extensions(&self) -> Vec<String> {
        let mut extensions: Vec<String> =
            ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "CHUNKING"].map(Into::into).into();
        extensions.push(format!("SIZE {}", self.rules.databytes));
        extensions.push(format!("LIMITS RCPTMAX={RECIPIENT_LIMIT}"));
        if self.rules.policy.offers_tls && self.login.is_none() {
            extensions.push("STARTTLS".into());
        }
        let (policy, mechanisms) = (&self.rules.policy, self.mechanisms());
        let possible = policy.auth && !policy.auth_needs_tls() && self.login.is_none();
        if possible && !mechanisms.is_empty() {
            extensions.push(format!("AUTH {}", mechanisms.join(" ")));
        }
        extensions
    }

    fn mail(&mut self, args: &[u8]) -> Action {
        let policy = &self.rules.policy;
        let unknown = self.login.is_none();
        if unknown && policy.require_auth && policy.auth_needs_tls() {
            return self.refuse(replies::TLS_FIRST);
        }
        if unknown && policy.require_auth {
            return self.refuse(replies::AUTH_FIRST);
        }
        if self.envelope.is_some() {
            return self.refuse(replies::NESTED_MAIL);
        }
        let (sender, parameters) = match wire::path(args, b"FROM") {
            Ok(found) => found,
            Err(BadPath::Syntax) => return self.refuse(replies::BAD_SENDER),
            Err(BadPath::NotAscii) => return self.refuse(replies::NOT_ASCII),
        };
        if let Some(reply) = parameters::mail(parameters, self.rules.databytes) {
            return self.refuse(reply);
        }
        let sender = self.with_local_name(sender);
        self.envelope = Some(Envelope { sender, ..Envelope::default() });
        Action::Reply(replies::SENDER_OK)
    }

    fn rcpt(&mut self, args: &[u8]) -> Action {
        let Some(envelope) = &self.envelope else { return self.refuse(replies::MAIL_FIRST) };
        if envelope.chunks {
            return self.refuse(replies::CHUNKS_BEGUN);
        }
        if envelope.recipients.len() >= RECIPIENT_LIMIT {
            return Action::Reply(replies::TOO_MANY_RECIPIENTS);
        }
        let bad_sender = rcpthosts::is_bad_sender(&self.rules.bad_senders, &envelope.sender);
        let (address, parameters) = match wire::path(args, b"TO") {
            Ok((address, parameters)) if !address.is_empty() => (address, parameters),
            Ok(_) | Err(BadPath::Syntax) => return self.refuse(replies::BAD_RECIPIENT),
            Err(BadPath::NotAscii) => return self.refuse(replies::NOT_ASCII),
        };
        match wire::parameters(parameters).next() {
            None if bad_sender => self.refuse(replies::BAD_MAIL_FROM),
            None => {
                let mut address = self.with_local_name(address);
                address.extend_from_slice(self.rules.relay_client.as_deref().unwrap_or_default());
                Action::Judge(address)
            }
            Some(None) => self.refuse(replies::SYNTAX),
            Some(Some(_)) => self.refuse(replies::UNKNOWN_PARAMETER),
        }
    }

    fn data(&mut self) -> Action {
        match &self.envelope {
            None => self.refuse(replies::MAIL_FIRST),
            Some(envelope) if envelope.chunks => self.refuse(replies::CHUNKS_BEGUN),
            Some(envelope) if envelope.recipients.is_empty() => self.refuse(replies::RCPT_FIRST),
            Some(_) => Action::Body,
        }
    }

    fn bdat(&mut self, args: &[u8]) -> Action {
        match (&mut self.envelope, wire::chunk(args)) {
            (Some(envelope), Some((size, last))) if !envelope.recipients.is_empty() => {
                envelope.chunks = true;
                Action::Chunk { size, last }
            }
            (Some(_), _) => self.skip(args, replies::RCPT_FIRST),
            (None, _) => self.skip(args, replies::MAIL_FIRST),
        }
    }

    /// A refused chunk is eaten; behind a malformed size nobody knows where the next command is.
    fn skip(&mut self, args: &[u8], reply: Reply) -> Action {
        match wire::chunk(args) {
            Some((size, _)) => Action::Skip { size, reply: self.count(reply) },
            None => Action::Quit(replies::SYNTAX),
        }
    }

    fn rset(&mut self) -> Action {
        self.envelope = None;
        Action::Reply(replies::FLUSHED)
    }

    fn quit(&mut self) -> Action {
        self.envelope = None;
        Action::Quit(replies::bye(&self.rules.greeting))
    }

    fn start_tls(&mut self) -> Action {
        let policy = &self.rules.policy;
        match (policy.in_tls, policy.offers_tls) {
            (true, _) => self.refuse(replies::TLS_ALREADY),
            (false, false) => self.refuse(replies::UNIMPLEMENTED),
            // What AUTH has changed could not be forgotten any more (RFC 3207 4.2).
            (false, true) if self.login.is_some() => self.refuse(replies::TLS_AFTER_AUTH),
            (false, true) => Action::StartTls,
        }
    }

    /// RFC 4954 4: once only, and not inside a transaction.
    fn auth(&mut self, args: &[u8]) -> Action {
        let at = args.iter().position(|&byte| byte == b' ').unwrap_or(args.len());
        let (name, arguments) = args.split_at_checked(at).unwrap_or((args, &[]));
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let policy = &self.rules.policy;
        if self.login.is_some() {
            return self.refuse(replies::AUTH_ALREADY);
        }
        if self.envelope.is_some() {
            return self.refuse(replies::AUTH_IN_MAIL);
        }
        if !policy.auth {
            return self.refuse(replies::NO_AUTH);
        }
        if policy.auth_needs_tls() {
            return self.refuse(replies::AUTH_NEEDS_TLS);
        }
        if name.is_empty() {
            return self.refuse(replies::SYNTAX);
        }
        if self.rules.mechanisms.is_none() {
            return self.refuse(replies::NO_AUTH_NOW);
        }
        if !self.mechanisms().contains(&name.as_str()) {
            return self.refuse(replies::NO_MECHANISM);
        }
        Action::Authenticate { mechanism: name, arguments: arguments.trim_ascii().to_vec() }
    }

    /// What the password process can do and the administrator wants.
    fn mechanisms(&self) -> Vec<&str> {
        let wanted = |name: &&str| self.rules.policy.mechanisms.include(name);
        self.rules.mechanisms.iter().flatten().map(String::as_str).filter(wanted).collect()
    }

    /// `user@[own address]` is `user@localiphost`.
    fn with_local_name(&self, mut address: Vec<u8>) -> Vec<u8> {
        if let Some((own, name)) = &self.rules.local_literal
            && let Some(domain) = wire::domain(&address)
            && wire::literal(domain).is_some_and(|literal| literal.to_canonical() == *own)
        {
            address.truncate(address.len().saturating_sub(domain.len()));
            address.extend_from_slice(name);
        }
        address
    }
}

/// Ten times what RFC 5321 4.5.3.1.8 asks for; further ones get 452, and LIMITS says so.
pub const RECIPIENT_LIMIT: usize = 1000;

/// Four times what RFC 5321 4.5.3.1.4 asks for, CRLF included; AUTH may be longer.
const COMMAND_LIMIT: usize = 2048 - 2;

/// RFC 5321 4.5.3.1.2: a domain.
const NAME_LIMIT: usize = 255;

/// In every request line of HTTP, and in no command: the requests of a web browser that was
/// tricked into speaking to this port end here, before what it was made to post.
const HTTP: &[u8] = b" HTTP/";
