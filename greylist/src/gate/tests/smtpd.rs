//! A small smtpd that runs in memory.

/// Takes mail as qmail-smtpd does; knows every recipient but `nobody@...`.
#[derive(Clone, Debug, Default)]
pub(super) struct Smtpd {
    quirk: Option<Quirk>,
    /// Every line that it saw outside bodies.
    pub(super) seen: Vec<String>,
    /// Sender, recipients and body of every message.
    pub(super) queued: Vec<(String, Vec<String>, Vec<u8>)>,
    pub(super) closed: bool,
    mail: Option<String>,
    mails: usize,
    recipients: Vec<String>,
    body: Vec<u8>,
    input: Vec<u8>,
    state: State,
}

/// How it differs from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    /// Every reply but 354 and 334 has two lines.
    Wordy,
    /// EHLO offers no CHUNKING.
    NoChunking,
    /// Only the first EHLO offers CHUNKING.
    ChunkingOnce,
    /// RSET fails.
    StubbornRset,
    /// A second MAIL fails.
    OneMail,
    /// RCPT needs no MAIL.
    Lax,
    /// Every password is right.
    Gullible,
    /// STARTTLS fails.
    NoTls,
    /// A second MAIL leaves the recipients of the first.
    Forgetless,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Commands,
    Auth(u8),
    Body,
    Chunk {
        left: usize,
        last: bool,
    },
    /// TLS, where every byte is answered by itself.
    Echo,
}

impl Smtpd {
    pub(super) fn with(quirk: Quirk) -> Smtpd {
        Smtpd { quirk: Some(quirk), ..Smtpd::default() }
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.quirk == Some(quirk)
    }

    pub(super) fn greeting(&self) -> Vec<u8> {
        self.reply("220", "mx.example ESMTP")
    }

    /// Takes bytes, gives replies.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut replies = Vec::new();
        while !self.closed {
            match self.step() {
                Some(reply) => replies.extend(reply),
                None => break,
            }
        }
        replies
    }

    fn step(&mut self) -> Option<Vec<u8>> {
        match self.state {
            State::Echo => (!self.input.is_empty()).then(|| std::mem::take(&mut self.input)),
            State::Chunk { left, last } => self.chunk(left, last),
            State::Body => self.body(),
            State::Commands | State::Auth(_) => {
                let end = self.input.iter().position(|&byte| byte == b'\n')?;
                let line: Vec<u8> = self.input.drain(..=end).collect();
                let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n").unwrap_or(&line))
                    .into_owned();
                self.seen.push(line.clone());
                Some(match self.state {
                    State::Auth(step) => self.auth(step, &line),
                    _ => self.command(&line),
                })
            }
        }
    }

    fn command(&mut self, line: &str) -> Vec<u8> {
        let (verb, args) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "HELO" => {
                self.reset();
                self.reply("250", "mx.example")
            }
            "EHLO" => {
                self.reset();
                let again = self.seen.iter().filter(|line| line.starts_with("EHLO")).count() > 1;
                let refused = self.has(Quirk::NoChunking) || again && self.has(Quirk::ChunkingOnce);
                let chunking = if refused { "" } else { "250-CHUNKING\r\n" };
                format!("250-mx.example\r\n250-PIPELINING\r\n{chunking}250 8BITMIME\r\n").into()
            }
            "MAIL" if self.has(Quirk::OneMail) && self.mails > 0 => self.reply("451", "busy"),
            "MAIL" => {
                self.mails += 1;
                if !self.has(Quirk::Forgetless) {
                    self.recipients.clear();
                }
                self.mail = Some(args["FROM:".len()..].to_owned());
                self.reply("250", "sender ok")
            }
            "RCPT" if self.mail.is_none() && !self.has(Quirk::Lax) => {
                self.reply("503", "MAIL first")
            }
            "RCPT" if args.contains("<nobody@") => self.reply("550", "no such user"),
            "RCPT" => {
                self.recipients.push(args["TO:".len()..].to_owned());
                self.reply("250", "recipient ok")
            }
            "DATA" if self.recipients.is_empty() => self.reply("503", "RCPT first"),
            "DATA" => {
                self.state = State::Body;
                b"354 go ahead\r\n".to_vec()
            }
            "BDAT" => {
                let mut words = args.split(' ');
                let left = words.next().unwrap().parse().unwrap();
                self.state = State::Chunk { left, last: words.next().is_some() };
                Vec::new()
            }
            "RSET" if self.has(Quirk::StubbornRset) => self.reply("500", "no"),
            "RSET" => {
                self.reset();
                self.reply("250", "flushed")
            }
            "NOOP" => self.reply("250", "still here"),
            "QUIT" => {
                self.closed = true;
                self.reply("221", "bye")
            }
            "AUTH" => {
                self.state = State::Auth(0);
                b"334 VXNlcm5hbWU6\r\n".to_vec()
            }
            "STARTTLS" if self.has(Quirk::NoTls) => self.reply("454", "no certificate"),
            "STARTTLS" => {
                self.state = State::Echo;
                self.reply("220", "go ahead")
            }
            _ => self.reply("502", "unimplemented"),
        }
    }

    fn auth(&mut self, step: u8, line: &str) -> Vec<u8> {
        self.state = State::Commands;
        match (line, step) {
            ("*", _) => self.reply("501", "cancelled"),
            (_, 0) => {
                self.state = State::Auth(1);
                b"334 UGFzc3dvcmQ6\r\n".to_vec()
            }
            _ if self.has(Quirk::Gullible) => self.reply("235", "welcome"),
            _ => self.reply("535", "failed"),
        }
    }

    fn body(&mut self) -> Option<Vec<u8>> {
        let whole = [b"\r\n", &self.input[..]].concat();
        let end = whole.windows(5).position(|five| five == b"\r\n.\r\n")?;
        let body: Vec<u8> = self.input.drain(..end + 3).collect();
        self.body = body[..end].to_vec();
        self.state = State::Commands;
        Some(self.queue())
    }

    fn chunk(&mut self, left: usize, last: bool) -> Option<Vec<u8>> {
        if self.input.len() < left {
            return None;
        }
        self.body.extend(self.input.drain(..left));
        self.state = State::Commands;
        if self.recipients.is_empty() {
            self.body.clear();
            return Some(self.reply("503", "RCPT first"));
        }
        Some(if last { self.queue() } else { self.reply("250", "octets received") })
    }

    fn queue(&mut self) -> Vec<u8> {
        let mail = self.mail.take().unwrap_or_default();
        let recipients = std::mem::take(&mut self.recipients);
        self.queued.push((mail, recipients, std::mem::take(&mut self.body)));
        self.reply("250", "queued")
    }

    fn reset(&mut self) {
        self.mail = None;
        self.recipients.clear();
        self.body.clear();
    }

    fn reply(&self, code: &str, text: &str) -> Vec<u8> {
        let first =
            if self.has(Quirk::Wordy) { format!("{code}-well,\r\n") } else { String::new() };
        format!("{first}{code} {text}\r\n").into()
    }
}
