//! A session with its client, its lists and its queue: carries out what the session decides.

mod login;

use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use plumb::die::reason;
use plumb::log::{Log, value};

use crate::auth::PasswordProcess;
use crate::client::{Client, End, Pace};
use crate::message::Message;
use crate::queue::{PATIENCE, Queue};
use crate::recipients::{Asked, Recipients};
use crate::replies::{self, Reply};
use crate::session::{Action, Session};
use crate::settings::{Settings, tls_words};
use crate::ucspi_tls;

/// Everything that a session needs.
#[derive(Debug)]
pub struct Conversation {
    client: Client,
    session: Session,
    recipients: Recipients,
    queue: OsString,
    environment: Vec<(OsString, OsString)>,
    tls_server: Option<ucspi_tls::Server>,
    password_process: Option<PasswordProcess>,
    /// What has come by BDAT so far.
    message: Option<Message>,
    log: Log,
    verbose: bool,
}

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Command,
    Nothing,
}

impl Conversation {
    /// A conversation that has not begun.
    pub fn new(
        settings: Settings,
        tls_server: Option<ucspi_tls::Server>,
        password_process: Option<PasswordProcess>,
        client: Client,
        verbose: bool,
    ) -> Self {
        Self {
            client,
            session: Session::new(settings.rules),
            recipients: settings.recipients,
            queue: settings.queue,
            environment: settings.environment,
            tls_server,
            password_process,
            message: None,
            log: Log::new("smtpd", std::process::id(), settings.connid),
            verbose,
        }
    }

    /// Speaks with the client until one of both ends.
    pub fn hold(mut self) {
        let ended = self.dialogue();
        self.abort();
        match ended {
            Ok(()) => self.verbose(|| "ended by=quit".into()),
            Err(End::Closed) => self.verbose(|| format!("ended by={}", End::Closed.name())),
            Err(end) => self.log.line(format!("ended by={}", end.name())),
        }
        let last_words = ended.err().and_then(End::reply);
        self.client.hang_up(last_words.as_ref());
    }

    fn dialogue(&mut self) -> Result<(), End> {
        self.learn_mechanisms();
        self.client.say(&self.session.greeting())?;
        loop {
            let Some(line) = self.client.next_line() else {
                self.client.fill()?;
                continue;
            };
            let action = self.session.line(&line);
            if self.act(action)? == Next::Nothing {
                return Ok(());
            }
            if !self.session.in_chunks() {
                self.abort();
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<Next, End> {
        match action {
            Action::Reply(reply) => self.answer(&reply)?,
            Action::Pipelined(reply) => self.note_and_say(&reply)?,
            Action::Judge(address) => self.judge(address)?,
            Action::Body => self.body()?,
            Action::Chunk { size, last } => self.chunk(size, last)?,
            Action::Skip { size, reply } => {
                self.octets(size, |_| ())?;
                self.answer(&reply)?;
            }
            Action::StartTls => return self.start_tls(),
            Action::Authenticate { mechanism, arguments } => {
                return self.authenticate(&mechanism, &arguments);
            }
            Action::Quit(reply) => {
                self.note_and_say(&reply)?;
                return Ok(Next::Nothing);
            }
        }
        Ok(Next::Command)
    }

    fn judge(&mut self, address: Vec<u8>) -> Result<(), End> {
        let asked = Asked {
            address: &address,
            sender: self.session.envelope().map_or(&[], |envelope| &envelope.sender),
            helo: self.session.helo().unwrap_or_default(),
        };
        let refused = self.recipients.refuse(asked, &self.environment).unwrap_or_else(|error| {
            self.log.line(format!("unable to look up a recipient: {}", reason(&error)));
            Some(replies::CANNOT_CHECK)
        });
        if let Some(reply) = &refused {
            self.log.line(format!("refused to={} reply=\"{reply}\"", value(&address, SHOWN)));
        }
        let reply = self.session.judged(address, refused);
        self.client.say(&reply)
    }

    fn body(&mut self) -> Result<(), End> {
        let mut message = match self.open() {
            Ok(message) => message,
            Err(reply) => return self.over(reply, 0),
        };
        let received = self.receive_body(&mut message);
        if let Err(end) = received {
            message.abort();
            return Err(end);
        }
        self.finish(message)
    }

    fn receive_body(&mut self, message: &mut Message) -> Result<(), End> {
        self.answer(&replies::GO_AHEAD)?;
        let (mut pace, mut over) = (Pace::default(), false);
        while !over {
            self.client.block(&mut pace, |bytes| {
                let (used, end) = message.body(bytes);
                over = end;
                used
            })?;
        }
        Ok(())
    }

    fn chunk(&mut self, size: u64, last: bool) -> Result<(), End> {
        let opened = match self.message.take() {
            Some(message) => Ok(message),
            None => self.open(),
        };
        let mut message = match opened {
            Ok(message) => message,
            Err(reply) => {
                self.octets(size, |_| ())?;
                return self.over(reply, 0);
            }
        };
        if let Err(end) = self.octets(size, |octets| message.chunk(octets)) {
            message.abort();
            return Err(end);
        }
        if last {
            message.end_chunks();
            return self.finish(message);
        }
        match message.refused().cloned() {
            Some(reply) => self.over(reply, message.size()),
            None => {
                self.message = Some(message);
                self.answer(&replies::chunk_received(size))
            }
        }
    }

    fn octets(&mut self, size: u64, mut take: impl FnMut(&[u8])) -> Result<(), End> {
        let (mut left, mut pace) = (size, Pace::default());
        while left > 0 {
            self.client.block(&mut pace, |bytes| {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                take(bytes.get(..count).unwrap_or_default());
                left = left.saturating_sub(u64::try_from(count).unwrap_or(0));
                count
            })?;
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Message, Reply> {
        let received = self.session.trace().header(SystemTime::now());
        match Queue::open(&self.queue, &self.environment, PATIENCE) {
            Ok(queue) => Ok(Message::new(queue, &received, self.session.databytes())),
            Err(error) => {
                let queue = self.queue.display();
                self.log.line(format!("unable to run {queue}: {}", reason(&error)));
                Err(replies::QUEUE_EXEC)
            }
        }
    }

    fn finish(&mut self, message: Message) -> Result<(), End> {
        let size = message.size();
        let Some(envelope) = self.session.envelope() else { return Err(End::Closed) };
        let reply = message.finish(envelope);
        self.over(reply, size)
    }

    /// Tells log and client what became of the message.
    fn over(&mut self, outcome: Reply, size: u64) -> Result<(), End> {
        if let Some(envelope) = self.session.envelope() {
            let event = if outcome.is_success() { "queued" } else { "not queued" };
            let (sender, count) = (value(&envelope.sender, SHOWN), envelope.recipients.len());
            self.log.line(format!(
                "{event} from={sender} recipients={count} bytes={size} reply=\"{outcome}\""
            ));
        }
        let reply = self.session.over(outcome);
        self.client.say(&reply)?;
        self.client.flush()
    }

    /// DESIGN: nothing that was said before TLS counts after it, and nothing may wait behind STARTTLS.
    fn start_tls(&mut self) -> Result<Next, End> {
        if !self.client.is_silent() {
            self.note_and_say(&replies::EARLY_TALK)?;
            return Ok(Next::Nothing);
        }
        let Some(server) = self.tls_server.take() else {
            self.answer(&replies::NO_TLS_NOW)?;
            return Ok(Next::Command);
        };
        self.answer(&replies::START_TLS)?;
        match server.start() {
            Ok(variables) => {
                let find = |wanted: &str| {
                    let found = variables.iter().find(|(name, _)| name == wanted);
                    found.map_or(OsStr::new(""), |(_, value)| value)
                };
                let tls = tls_words(find("SSL_PROTOCOL"), find("SSL_CIPHER"));
                self.session = std::mem::take(&mut self.session).after_handshake(tls);
                self.environment.retain(|(name, _)| variables.iter().all(|(new, _)| name != new));
                self.environment.extend(variables);
                Ok(Next::Command)
            }
            Err(error) => {
                self.log.line(format!("unable to start TLS: {}", reason(&error)));
                Err(End::Closed)
            }
        }
    }

    fn abort(&mut self) {
        if let Some(message) = self.message.take() {
            message.abort();
        }
    }

    fn answer(&mut self, reply: &Reply) -> Result<(), End> {
        self.note_and_say(reply)?;
        self.client.flush()
    }

    fn note_and_say(&mut self, reply: &Reply) -> Result<(), End> {
        if !reply.is_positive() {
            self.log.line(format!("refused reply=\"{reply}\""));
        }
        self.client.say(reply)
    }

    fn verbose(&mut self, event: impl FnOnce() -> String) {
        if self.verbose {
            self.log.line(event());
        }
    }
}

/// How much of an address a log line shows.
const SHOWN: usize = 300;
