//! The password process' half of the conversation on SASLFD, line by line.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::attempt::{Connection, Verdict, attempt, find, now};
use crate::delegate::Delegate;
use crate::record::Record;
use crate::replies;
use crate::sasl::{Exchange, Mechanism, Step};
use crate::scram::{Channel, ClientFirst, Exporter, Fault};
use crate::store::Users;
use crate::text;
use crate::verify::{Proof, Reason, admit, is_login, verifier, wrong};

/// Who knows the passwords.
#[derive(Debug)]
pub enum Keeper {
    /// users.cdb; or why it cannot be read, which every attempt is told again.
    Users(Result<Users, String>),
    /// A checkpassword program.
    Program(Delegate),
}

/// What the environment says.
#[derive(Debug, Default)]
pub struct Environment {
    /// For the log.
    pub connection: Connection,
    /// Whether AUTH is possible on this connection at all.
    pub allowed: bool,
    /// What SCRAM-SHA-256-PLUS is bound to.
    pub exporter: Option<Exporter>,
    /// The host in CRAM-MD5's challenges.
    pub host: String,
    /// Whether the program behind -x is offered CRAM-MD5.
    pub cram: bool,
}

/// One connection's attempts.
#[derive(Debug)]
pub struct Service {
    keeper: Keeper,
    environment: Environment,
    exchange: Option<(Mechanism, Exchange)>,
    /// Whose SCRAM exchange is running.
    record: Option<Record>,
    failures: usize,
    attempts: usize,
}

/// What a line leads to, in this order: log, wait, say, end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For the log.
    pub log: Option<String>,
    /// To be waited before anything is said.
    pub delay: Duration,
    /// The lines to say, each ended by LF.
    pub say: String,
    /// Whether this is the end of the service.
    pub end: bool,
}

impl Keeper {
    /// The descriptor that it works with.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            Self::Users(users) => users.as_ref().ok().map(Users::descriptor),
            Self::Program(program) => Some(program.descriptor()),
        }
    }
}

impl Service {
    /// A service that has heard nothing yet.
    pub fn new(keeper: Keeper, environment: Environment) -> Self {
        Self { keeper, environment, exchange: None, record: None, failures: 0, attempts: 0 }
    }

    /// Whether the client owes an answer.
    pub fn in_exchange(&self) -> bool {
        self.exchange.is_some()
    }

    /// Takes one line, without its LF.
    pub fn line(&mut self, line: &[u8]) -> Answer {
        let (word, rest) = match line.iter().position(|byte| *byte == b' ') {
            Some(at) => line.split_at(at),
            None => (line, &b""[..]),
        };
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        match (word, self.exchange.take()) {
            (b"MECHS", exchange) => {
                self.exchange = exchange;
                Answer::say(format!("MECHS{}", self.offered()))
            }
            (b"AUTH", None) => self.auth(rest),
            (b"LINE", Some((mechanism, exchange))) => self.message(mechanism, exchange, rest),
            (b"CANCEL", Some(_)) => Answer::say(replies::CANCELLED),
            _ => Answer::say(replies::UNKNOWN),
        }
    }

    fn auth(&mut self, arguments: &[u8]) -> Answer {
        self.record = None;
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts > ATTEMPTS_MAX {
            return Answer { end: true, ..Answer::default() };
        }
        let mut words = arguments.split(|byte| *byte == b' ');
        let mechanism = words.next().and_then(Mechanism::parse);
        let (initial, more) = (words.next(), words.next());
        let Some(mechanism) = mechanism.filter(|_| self.environment.allowed) else {
            return Answer::say(replies::NOT_OFFERED);
        };
        if let Keeper::Users(Err(cause)) = &self.keeper {
            return self.unavailable(mechanism, &cause.clone());
        }
        if !self.offers(mechanism) {
            return Answer::say(replies::NOT_OFFERED);
        }
        let mut random = [0; 16];
        if plumb::random::fill(&mut random).is_err() {
            return self.unavailable(mechanism, NO_RANDOM);
        }
        let (challenge, exchange) = mechanism.begin(&random, &self.environment.host);
        match initial {
            _ if more.is_some() => Answer::say(replies::MALFORMED),
            None => self.ask(mechanism, &challenge, exchange),
            Some(_) if !mechanism.client_first() => Answer::say(replies::NO_INITIAL),
            // RFC 4954 4: `=` is an initial response of no bytes.
            Some(b"=") => self.message(mechanism, exchange, b""),
            Some(b"") => Answer::say(replies::MALFORMED),
            Some(initial) => self.message(mechanism, exchange, initial),
        }
    }

    /// Takes the client's message, in base64.
    fn message(&mut self, mechanism: Mechanism, exchange: Exchange, line: &[u8]) -> Answer {
        if line.len() > LINE_MAX {
            return Answer::say(replies::TOO_LONG);
        }
        let Some(message) = text::decode(line) else { return Answer::say(replies::MALFORMED) };
        let exporter = self.environment.exporter;
        let channel = match (mechanism, &exporter) {
            (Mechanism::ScramSha256Plus, Some(exporter)) => Channel::Bound(exporter),
            (_, Some(_)) => Channel::Unused,
            (_, None) => Channel::None,
        };
        match exchange.answer(&message, channel) {
            Step::Ask(challenge, exchange) => self.ask(mechanism, &challenge, exchange),
            Step::Judge(login, proof) => self.judge(mechanism, &login, proof),
            Step::Salt(first) => self.salt(mechanism, first),
            Step::Proven(login, last) => match admit(self.record.as_ref(), now()) {
                Ok(()) => self.ask(mechanism, &last, Exchange::ScramEnd(login)),
                Err(reason) => self.refuse(mechanism, &login, reason.word()),
            },
            Step::Disproven(login) => {
                self.refuse(mechanism, &login, wrong(self.record.as_ref()).word())
            }
            Step::Done(login) => {
                let record = self.record.take().unwrap_or_default();
                self.accept(mechanism, &login, &record)
            }
            Step::Fault(Fault::Malformed) => Answer::say(replies::MALFORMED),
            Step::Fault(Fault::Refused) => self.refuse(mechanism, b"-", "not-granted"),
        }
    }

    fn ask(&mut self, mechanism: Mechanism, challenge: &[u8], exchange: Exchange) -> Answer {
        self.exchange = Some((mechanism, exchange));
        Answer::say(format!("334 {}", text::encode(challenge)))
    }

    fn salt(&mut self, mechanism: Mechanism, first: ClientFirst) -> Answer {
        let Keeper::Users(Ok(users)) = &self.keeper else {
            return self.unavailable(mechanism, "no users.cdb");
        };
        let mut random = [0; crate::scram::NONCE];
        if plumb::random::fill(&mut random).is_err() {
            return self.unavailable(mechanism, NO_RANDOM);
        }
        match find(users, &first.login) {
            Ok(record) => {
                let verifier = verifier(record.as_ref(), users.facts(), &first.login);
                self.record = record;
                let challenge = first.challenge(verifier, &random);
                let message = challenge.message.clone();
                self.ask(mechanism, &message, Exchange::ScramFinal(Box::new(challenge)))
            }
            Err(cause) => self.unavailable(mechanism, &cause),
        }
    }

    fn judge(&mut self, mechanism: Mechanism, login: &[u8], proof: Proof) -> Answer {
        let verdict = match &self.keeper {
            Keeper::Users(Ok(users)) => attempt(users, login, &[proof]),
            Keeper::Users(Err(cause)) => Verdict::Unavailable(cause.clone()),
            Keeper::Program(_) if !is_login(login) => Verdict::Refused(Reason::UnknownUser),
            Keeper::Program(program) => program.judge(login, &proof),
        };
        match verdict {
            Verdict::Accepted(record) => self.accept(mechanism, login, &record),
            Verdict::Refused(reason) => self.refuse(mechanism, login, reason.word()),
            Verdict::Unavailable(cause) => self.unavailable(mechanism, &cause),
        }
    }

    fn accept(&mut self, mechanism: Mechanism, login: &[u8], record: &Record) -> Answer {
        let mut say = String::new();
        for (name, value) in record.env.iter().filter(|(name, _)| may_be_told(name)) {
            say.push_str(&format!("ENV {name}={value}\n"));
        }
        say.push_str(&format!("235 {}\n", String::from_utf8_lossy(login)));
        let log = self.environment.connection.successful(login, mechanism.name());
        Answer { log: Some(log), say, ..Answer::default() }
    }

    /// Two failures are answered, each later than the one before; the third ends the service unanswered.
    fn refuse(&mut self, mechanism: Mechanism, login: &[u8], reason: &str) -> Answer {
        let delay = DELAYS.get(self.failures).copied().unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        let end = self.failures >= DELAYS.len();
        let say = if end { String::new() } else { format!("{}\n", replies::FAILED) };
        let log = self.environment.connection.failed(login, mechanism.name(), reason);
        Answer { log: Some(log), delay, say, end }
    }

    fn unavailable(&self, mechanism: Mechanism, cause: &str) -> Answer {
        let log = self.environment.connection.unavailable(mechanism.name(), cause);
        Answer { log: Some(log), ..Answer::say(replies::UNAVAILABLE) }
    }

    fn offers(&self, mechanism: Mechanism) -> bool {
        let plain = matches!(mechanism, Mechanism::Plain | Mechanism::Login);
        self.environment.allowed
            && match &self.keeper {
                Keeper::Users(Ok(users)) => match mechanism {
                    Mechanism::ScramSha256 => users.facts().scram.is_some(),
                    Mechanism::ScramSha256Plus => {
                        users.facts().scram.is_some() && self.environment.exporter.is_some()
                    }
                    Mechanism::CramMd5 => users.facts().cram,
                    Mechanism::Plain | Mechanism::Login => true,
                },
                Keeper::Users(Err(_)) => plain,
                Keeper::Program(_) => {
                    plain || mechanism == Mechanism::CramMd5 && self.environment.cram
                }
            }
    }

    fn offered(&self) -> String {
        let offered = Mechanism::ALL.into_iter().filter(|mechanism| self.offers(*mechanism));
        offered.map(|mechanism| format!(" {}", mechanism.name())).collect()
    }
}

impl Answer {
    fn say(line: impl Into<String>) -> Self {
        let mut say = line.into();
        say.push('\n');
        Self { say, ..Self::default() }
    }
}

/// What a record may set in a server's environment: the names that the protocol knows.
fn may_be_told(name: &str) -> bool {
    ["RELAYCLIENT", "DATABYTES"].contains(&name) || name.starts_with("AUTH_")
}

/// What each failure of a connection costs before its answer; the last one gets none.
const DELAYS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// AUTH commands in one connection, whatever becomes of them: no client needs as many.
const ATTEMPTS_MAX: usize = 20;

/// RFC 4954 4: longest line of an exchange in bytes.
const LINE_MAX: usize = 12_288;

const NO_RANDOM: &str = "no random bytes";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::facts::{Facts, SECRET};
    use crate::record;
    use crate::scram::{Verifier, tests::client};
    use crate::secret::Secret;
    use crate::store;

    /// Cheap ones: $6$ of 1,000 rounds, 4,096 iterations, CRAM-MD5 for tim.
    fn users() -> Users {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let records = [
            ("tim", "tanstaaftanstaaf", "env=DATABYTES=5\nenv=PATH=/\nenv=AUTH_NOTE=x"),
            ("dis", "tanstaaftanstaaf", "disabled=1"),
        ];
        let records: Vec<_> = records
            .iter()
            .map(|(login, password, more)| {
                let scram = Verifier::new(password.as_bytes(), b"salt", 4096).text();
                let cram = crate::cram::Context::of(password.as_bytes()).text();
                let text = format!("v=1\npw=$6$rounds=1000$saltsalt$c38tj/6PqBchgHs5X/fXl0.5s/0c7Uu7ARi18uS1V992.j1whI3G74RwoFjXfVBmQhk7JXrZ.kh5zzpYl.hcs.\nscram-sha-256={scram}\ncram-md5={cram}\n{more}\n");
                (login.as_bytes().to_vec(), Record::parse(text.as_bytes()).unwrap())
            })
            .collect();
        let facts = Facts::of(records.iter().map(|(_, r)| r), Secret::new(vec![7; SECRET]));
        let values: Vec<_> =
            records.iter().map(|(l, r)| (l.clone(), record::value(&r.fields()))).collect();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("authcheck-service-{}-{count}", std::process::id()));
        fs::write(&path, store::compile(&facts, &values).unwrap()).unwrap();
        let users = Users::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        users
    }

    fn environment() -> Environment {
        Environment { allowed: true, host: "h".into(), ..Environment::default() }
    }

    fn service() -> Service {
        Service::new(Keeper::Users(Ok(users())), environment())
    }

    /// Says the lines that begin with `>` and requires those that begin with `<`.
    fn play(service: &mut Service, script: &str) {
        let mut said = String::new();
        for line in script.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
            match line.split_once(' ').unwrap_or((line, "")) {
                (">", line) => {
                    assert_eq!(said, "", "before {line}");
                    said = service.line(line.as_bytes()).say;
                }
                (_, expected) => {
                    let (line, rest) = said.split_once('\n').unwrap();
                    assert_eq!(line, expected.trim_end_matches('|'));
                    said = rest.to_owned();
                }
            }
        }
        assert_eq!(said, "");
    }

    fn b64(text: &str) -> String {
        text::encode(text.as_bytes())
    }

    #[test]
    fn plain_and_login() {
        let (tim, secret) = (b64("tim"), b64("tanstaaftanstaaf"));
        let plain = b64("\0tim\0tanstaaftanstaaf");
        let accepted = "< ENV DATABYTES=5\n< ENV AUTH_NOTE=x\n< 235 tim";
        for exchange in [
            format!("> AUTH PLAIN {plain}"),
            format!("> auth-in-lower-case\n< {}\n> AUTH plain {plain}", replies::UNKNOWN),
            format!("> AUTH PLAIN\n< 334 |\n> LINE {plain}"),
            format!("> AUTH LOGIN {tim}\n< 334 UGFzc3dvcmQ6\n> LINE {secret}"),
            format!(
                "> AUTH LOGIN\n< 334 VXNlcm5hbWU6\n> LINE {tim}\n< 334 UGFzc3dvcmQ6\n> MECHS\n\
                < MECHS SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5\n> LINE {secret}"
            ),
        ] {
            play(&mut service(), &format!("{exchange}\n{accepted}"));
        }
    }

    // RFC 4954 4: codes of refusals before any password is looked at.
    #[test]
    fn what_is_malformed_or_not_offered() {
        let long = "A".repeat(12_288);
        let mut service = service();
        for (exchange, reply) in [
            ("AUTH", replies::NOT_OFFERED),
            ("AUTH ", replies::NOT_OFFERED),
            ("AUTH DIGEST-MD5", replies::NOT_OFFERED),
            ("AUTH SCRAM-SHA-256-PLUS", replies::NOT_OFFERED),
            ("AUTH PLAIN =", replies::MALFORMED),
            ("AUTH PLAIN ", replies::MALFORMED),
            ("AUTH PLAIN AGEA=", replies::MALFORMED),
            ("AUTH PLAIN AGEAYg== x", replies::MALFORMED),
            ("AUTH CRAM-MD5 AAAA", replies::NO_INITIAL),
            ("AUTH CRAM-MD5 =", replies::NO_INITIAL),
            ("LINE AAAA", replies::UNKNOWN),
            ("CANCEL", replies::UNKNOWN),
            ("", replies::UNKNOWN),
        ] {
            play(&mut service, &format!("> {exchange}\n< {reply}"));
        }
        let plain = "> AUTH PLAIN\n< 334 |\n";
        play(&mut service, &format!("{plain}> CANCEL\n< {}", replies::CANCELLED));
        play(&mut service, &format!("{plain}> LINE *\n< {}", replies::MALFORMED));
        play(&mut service, &format!("{plain}> LINE {long}\n< {}", replies::MALFORMED));
        play(&mut service, &format!("{plain}> LINE {long}AAAA\n< {}", replies::TOO_LONG));
        play(&mut service, &format!("{plain}> AUTH PLAIN\n< {}", replies::UNKNOWN));
        play(&mut service, &format!("> LINE AAAA\n< {}", replies::UNKNOWN));
        assert!(!service.in_exchange());
        // More than any client needs: the end.
        for _ in 0..5 {
            service.line(b"AUTH X");
        }
        assert!(service.line(b"AUTH X").end);
    }

    // RFC 4954 4: the answer must be the same for a login that does not exist.
    #[test]
    fn two_failures_are_answered_later_and_later_and_the_third_ends_it() {
        for login in ["tim", "dis", "nobody", "", "ti\nm"] {
            let mut service = service();
            let wrong = format!("AUTH PLAIN {}", b64(&format!("\0{login}\0wrong")));
            if login.is_empty() {
                assert_eq!(service.line(wrong.as_bytes()).say.trim_end(), replies::MALFORMED);
                continue;
            }
            let answers: Vec<_> = (0..3).map(|_| service.line(wrong.as_bytes())).collect();
            let failed = format!("{}\n", replies::FAILED);
            assert_eq!(
                (&answers[0].say, &answers[1].say, &*answers[2].say),
                (&failed, &failed, "")
            );
            assert!(Duration::ZERO < answers[0].delay && answers[0].delay < answers[1].delay);
            assert_eq!(answers.iter().map(|a| a.end).collect::<Vec<_>>(), [false, false, true]);
            assert!(answers.iter().all(|a| a.log.as_ref().unwrap().contains("AUTH failed [")));
            assert!(!format!("{answers:?}").contains("wrong\""));
        }
        let right = format!("AUTH PLAIN {}", b64("\0dis\0tanstaaftanstaaf"));
        let answer = service().line(right.as_bytes());
        assert_eq!(answer.say.trim_end(), replies::FAILED);
        assert!(answer.log.unwrap().ends_with("reason=disabled"));
        let other = format!("AUTH PLAIN {}", b64("tim\0dis\0tanstaaftanstaaf"));
        assert_eq!(service().line(other.as_bytes()).say.trim_end(), replies::FAILED);
    }

    #[test]
    fn a_database_that_cannot_be_read_is_never_a_wrong_password() {
        let mut service = Service::new(Keeper::Users(Err("users.cdb: gone".into())), environment());
        play(&mut service, "> MECHS\n< MECHS PLAIN LOGIN");
        for mechanism in Mechanism::ALL {
            let answer = service.line(format!("AUTH {}", mechanism.name()).as_bytes());
            assert_eq!(answer.say.trim_end(), replies::UNAVAILABLE);
            assert!(answer.log.unwrap().contains("AUTH unavailable [unknown] - "));
        }
    }

    #[test]
    fn where_auth_is_not_allowed_nothing_is_offered() {
        let closed = Environment { allowed: false, ..environment() };
        let mut service = Service::new(Keeper::Users(Ok(users())), closed);
        play(&mut service, &format!("> MECHS\n< MECHS\n> AUTH PLAIN\n< {}", replies::NOT_OFFERED));
    }

    #[test]
    fn cram_md5() {
        let mut service = service();
        let mut seen = Vec::new();
        for (login, reply) in
            [("tim", "ENV DATABYTES=5"), ("dis", replies::FAILED), ("nobody", replies::FAILED)]
        {
            let challenge = service.line(b"AUTH CRAM-MD5").say;
            let challenge = text::decode(&challenge.trim_end().as_bytes()[4..]).unwrap();
            assert!(challenge.ends_with(b"@h>") && !seen.contains(&challenge));
            let mut hmac =
                <hmac::Hmac<md5::Md5> as hmac::KeyInit>::new_from_slice(b"tanstaaftanstaaf")
                    .unwrap();
            hmac::Mac::update(&mut hmac, &challenge);
            let digest = text::hex(&hmac::Mac::finalize(hmac).into_bytes());
            let answer =
                service.line(format!("LINE {}", b64(&format!("{login} {digest}"))).as_bytes());
            assert_eq!(answer.say.lines().next(), Some(reply));
            seen.push(challenge);
        }
    }

    // RFC 2195 2: "must be ... never be used again".
    #[test]
    fn ten_thousand_challenges_without_a_repeat() {
        let mut service = service();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            service.attempts = 0;
            assert!(seen.insert(service.line(b"AUTH CRAM-MD5").say));
            service.line(b"CANCEL");
        }
    }

    /// A whole SCRAM exchange; gives the last answer.
    fn scram(
        service: &mut Service,
        name: &str,
        header: &str,
        login: &str,
        password: &[u8],
        bound: &[u8],
    ) -> String {
        let first = format!("{header}n={login},r=abc");
        let challenge = service.line(format!("AUTH {name} {}", b64(&first)).as_bytes()).say;
        let Some(challenge) = challenge.strip_prefix("334 ") else { return challenge };
        let challenge = text::decode(challenge.trim_end().as_bytes()).unwrap();
        let last = client(&challenge, password, header.as_bytes(), first.as_bytes(), bound);
        let answer = service.line(format!("LINE {}", text::encode(&last)).as_bytes()).say;
        if !answer.starts_with("334 dj") {
            return answer;
        }
        service.line(b"LINE ").say
    }

    #[test]
    fn scram_with_and_without_channel_binding() {
        let (right, accepted) =
            (b"tanstaaftanstaaf", "ENV DATABYTES=5\nENV AUTH_NOTE=x\n235 tim\n");
        let failed = format!("{}\n", replies::FAILED);
        let plus = "SCRAM-SHA-256-PLUS";
        let exporter = [9; 32];
        let bound = || {
            Service::new(
                Keeper::Users(Ok(users())),
                Environment { exporter: Some(exporter), ..environment() },
            )
        };
        assert_eq!(scram(&mut service(), "SCRAM-SHA-256", "n,,", "tim", right, b""), accepted);
        assert_eq!(scram(&mut service(), "SCRAM-SHA-256", "y,,", "tim", right, b""), accepted);
        for (login, password) in [("tim", &b"wrong"[..]), ("dis", right), ("nobody", right)] {
            assert_eq!(scram(&mut service(), "SCRAM-SHA-256", "n,,", login, password, b""), failed);
        }
        play(
            &mut bound(),
            "> MECHS\n< MECHS SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN CRAM-MD5",
        );
        assert_eq!(
            scram(&mut bound(), plus, "p=tls-exporter,,", "tim", right, &exporter),
            accepted
        );
        assert_eq!(scram(&mut bound(), plus, "p=tls-exporter,,", "tim", right, &[8; 32]), failed);
        assert_eq!(scram(&mut bound(), plus, "n,,", "tim", right, b""), failed);
        assert_eq!(scram(&mut bound(), "SCRAM-SHA-256", "n,,", "tim", right, b""), accepted);
        // RFC 5802 6: the offer of -PLUS was taken away on its way to the client.
        assert_eq!(scram(&mut bound(), "SCRAM-SHA-256", "y,,", "tim", right, b""), failed);
        let malformed = format!("{}\n", replies::MALFORMED);
        assert_eq!(scram(&mut service(), "SCRAM-SHA-256", "m=x,,", "tim", right, b""), malformed);
    }

    #[test]
    fn a_login_that_does_not_exist_has_a_stable_salt() {
        let salt = |login: &str| {
            let first = b64(&format!("n,,n={login},r=abc"));
            let challenge = service().line(format!("AUTH SCRAM-SHA-256 {first}").as_bytes()).say;
            let challenge = text::decode(&challenge.trim_end().as_bytes()[4..]).unwrap();
            let text = String::from_utf8(challenge.to_vec()).unwrap();
            text.split_once(",s=").unwrap().1.to_owned()
        };
        assert_eq!(salt("nobody"), salt("nobody"));
        assert_ne!(salt("nobody"), salt("somebody"));
        assert!(salt("nobody").ends_with(",i=4096") && salt("tim").ends_with(",i=4096"));
    }

    #[test]
    fn no_line_makes_it_panic_or_let_anyone_in() {
        let words = [
            "AUTH",
            "LINE",
            "CANCEL",
            "MECHS",
            " ",
            "PLAIN",
            "LOGIN",
            "CRAM-MD5",
            "SCRAM-SHA-256",
            "=",
            "AGEAYg==",
            "biwsbj10aW0scj1hYmM=",
            "*",
            "\0",
            "\u{ff}",
            "dGlt",
        ];
        let mut seed = 1_u32;
        let mut service = service();
        for _ in 0..20_000 {
            let mut line = String::new();
            for _ in 0..seed % 6 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                line.push_str(words[usize::try_from(seed >> 24).unwrap() % words.len()]);
                line.push_str(if seed & 0x10000 == 0 { " " } else { "" });
            }
            seed = seed.wrapping_add(1);
            let answer = service.line(line.as_bytes());
            assert!(!answer.say.contains("235"), "{line}");
            assert!(answer.end || answer.say.ends_with('\n'), "{line}");
            (service.failures, service.attempts) = (0, 0);
        }
    }
}
