//! 100,000 AUTH dialogues, right and wrong, cut anywhere: no secret, nor its base64, is in the log.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{DEFAULT, Step, cut, log, singly};
use plumb::relay::Side;

/// How many dialogues there are, and how many of them are also cut at every byte.
const DIALOGUES: u64 = 100_000;
const SAMPLE: u64 = 250;

// RFC 4954, 1939, 5034, 9051, 4959: whatever the exchange, and wherever it is cut.
#[test]
fn no_secret_is_ever_seen() {
    let mut understood = 0;
    for seed in 0..DIALOGUES {
        let mut dialogue = Dialogue::generate(seed);
        let steps = dialogue.steps();
        let shown = log(DEFAULT, &steps);
        dialogue.check(seed, &shown);
        understood += u64::from(!shown.contains("not shown from here on"));
        if seed % SAMPLE == 0 {
            for chopped in all_cuts(&steps) {
                assert_eq!(log(DEFAULT, &chopped), shown, "dialogue {seed}");
            }
        }
    }
    // Nothing is hidden by giving up.
    assert_eq!(understood, DIALOGUES);
}

fn all_cuts(steps: &[Step]) -> Vec<Vec<Step>> {
    let longest = steps.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    (1..longest).map(|offset| cut(steps, offset)).chain([singly(steps)]).collect()
}

/// One session: what the client says, and what the server answers to it.
struct Dialogue {
    random: Random,
    turns: Vec<(Vec<u8>, Vec<u8>)>,
    /// What must not be seen, as it goes over the wire.
    secrets: Vec<Vec<u8>>,
    /// What must be seen.
    shown: Vec<String>,
}

impl Dialogue {
    fn generate(seed: u64) -> Dialogue {
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut dialogue =
            Dialogue { random, turns: Vec::new(), secrets: Vec::new(), shown: Vec::new() };
        match dialogue.random.below(3) {
            0 => dialogue.smtp(),
            1 => dialogue.pop3(),
            _ => dialogue.imap(),
        }
        dialogue
    }

    fn check(&self, seed: u64, shown: &str) {
        for secret in &self.secrets {
            let secret = String::from_utf8_lossy(secret);
            let (length, part) = (secret.len(), 8.min(secret.len()));
            for piece in
                [&secret[..part], &secret[length - part..], &secret[(length - part) / 2..][..part]]
            {
                assert!(
                    !shown.contains(piece),
                    "dialogue {seed} shows {piece} of {secret}:\n{shown}"
                );
            }
        }
        let any_case = shown.to_ascii_lowercase();
        for words in &self.shown {
            assert!(
                any_case.contains(&words.to_ascii_lowercase()),
                "dialogue {seed} does not show {words}:\n{shown}"
            );
        }
        assert!(shown.bytes().all(|byte| byte == b'\n' || matches!(byte, b' '..=b'~')));
    }

    /// The turns, in which the client may run ahead, cut at random.
    fn steps(&mut self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let (mut said, mut answered) = (0, 0);
        while answered < self.turns.len() {
            let ahead = said > answered;
            if said < self.turns.len() && (!ahead || self.random.one_in(4)) {
                steps.push((Side::Client, self.turns[said].0.clone()));
                said += 1;
            } else {
                steps.push((Side::Server, self.turns[answered].1.clone()));
                answered += 1;
            }
        }
        steps.into_iter().flat_map(|step| self.random.chop(step)).collect()
    }

    fn turn(&mut self, client: impl AsRef<[u8]>, server: impl AsRef<[u8]>) {
        let line = |bytes: &[u8]| match bytes {
            [] => Vec::new(),
            bytes => [bytes, b"\r\n"].concat(),
        };
        self.turns.push((line(client.as_ref()), line(server.as_ref())));
    }

    /// A password as people have them, and it must not be seen.
    fn password(&mut self) -> String {
        let odd = ["", "", " ", "\"", "\\", "{5}", "+", "=", "@", "[", "%"];
        let odd = odd[self.random.below(odd.len())];
        let password = format!("{}{odd}{}", self.random.word(9), self.random.word(5));
        self.secrets.push(password.clone().into_bytes());
        password
    }

    fn hidden_base64(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let encoded = STANDARD.encode(bytes);
        self.secrets.push(encoded.clone().into_bytes());
        encoded
    }

    /// What client and server say in turn, in base64, the client first; challenges are hidden but for LOGIN's.
    fn exchange(&mut self, mechanism: &str) -> Vec<(String, String)> {
        let (user, password) = (self.random.word(8), self.password());
        let hidden = |dialogue: &mut Dialogue, text: String| dialogue.hidden_base64(text);
        match mechanism {
            "LOGIN" => {
                let answers = [user, password].map(|answer| hidden(self, answer));
                let prompts = ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"].map(str::to_owned);
                prompts.into_iter().zip(answers).collect()
            }
            "PLAIN" => vec![(String::new(), hidden(self, format!("\0{user}\0{password}")))],
            "CRAM-MD5" | "DIGEST-MD5" | "NTLM" => {
                let challenge = format!("<{}@mx>", self.random.word(12));
                let digest = self.random.word(32);
                vec![(hidden(self, challenge), hidden(self, format!("{user} {digest}")))]
            }
            "XOAUTH2" | "OAUTHBEARER" => {
                let token = format!("user={user}\x01auth=Bearer {password}\x01\x01");
                vec![(String::new(), hidden(self, token))]
            }
            _ => (0..1 + self.random.below(3))
                .map(|step| {
                    let challenge = match step {
                        0 => String::new(),
                        _ => {
                            let text =
                                format!("r={},s={}", self.random.word(9), self.random.word(9));
                            hidden(self, text)
                        }
                    };
                    let answer =
                        format!("c=biws,r={},p={}", self.random.word(9), self.random.word(9));
                    (challenge, hidden(self, answer))
                })
                .collect(),
        }
    }

    /// A text with which servers answer, and in which some repeat what they heard.
    fn words(&mut self) -> String {
        let secret = self.secrets.last().map(|secret| String::from_utf8_lossy(secret).into_owned());
        match (self.random.below(3), secret) {
            (0, Some(secret)) => format!("I heard {secret}"),
            (1, _) => "no".to_owned(),
            _ => "ok, it is over".to_owned(),
        }
    }

    fn mechanism(&mut self) -> &'static str {
        const NAMES: [&str; 12] = [
            "PLAIN",
            "LOGIN",
            "CRAM-MD5",
            "DIGEST-MD5",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256-PLUS",
            "XOAUTH2",
            "OAUTHBEARER",
            "NTLM",
            "GSSAPI",
            "EXTERNAL",
        ];
        NAMES[self.random.below(NAMES.len())]
    }

    /// One exchange behind `command`; challenges begin with `challenge`, and refused lines are answered by `unknown`.
    fn authenticate(&mut self, command: &str, challenge: &str, end: &str, unknown: &str) {
        let mechanism = self.mechanism();
        let mut exchange = self.exchange(mechanism);
        let mut first = self.spelled(&format!("{command} {mechanism}"));
        self.shown.push(mechanism.to_owned());
        if self.random.one_in(2) {
            // SASL-IR: the first challenge was empty, or the mechanism's fixed one.
            let (_, initial) = exchange.remove(0);
            first = format!("{first} {initial}");
        }
        if self.random.one_in(5) {
            // Refused at once, but the client goes on, and servers take that for commands.
            let words = self.words();
            self.turn(first, format!("{end} {words}"));
            for (_, answer) in exchange {
                let words = self.words();
                self.turn(answer, format!("{unknown} {words}"));
            }
            // As short as a verb, and in letters only.
            let secret = self.random.letters(8);
            self.secrets.push(secret.clone().into_bytes());
            return self.turn(&secret, format!("{unknown} {secret}?"));
        }
        let cancels = self.random.one_in(6);
        let mut line = first;
        for (prompt, answer) in exchange {
            self.turn(line, format!("{challenge}{prompt}"));
            line = if cancels { "*".to_owned() } else { answer };
            if cancels {
                break;
            }
        }
        let words = self.words();
        self.turn(line, format!("{end} {words}"));
    }

    fn smtp(&mut self) {
        self.turn("", "220-mx ESMTP\r\n220 ready");
        self.turn("EHLO client", "250-mx\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250 PIPELINING");
        for _ in 0..1 + self.random.below(3) {
            if self.random.one_in(3) {
                self.turn("MAIL FROM:<a@b>", "250 ok");
                self.turn("RSET", "250 ok");
            }
            let end = ["235 2.7.0", "535 5.7.8", "454", "501 5.5.2"][self.random.below(4)];
            self.authenticate("AUTH", "334 ", end, "500 5.5.1");
        }
        self.turn("QUIT", "221 bye");
        self.shown.push("> 221 bye".to_owned());
    }

    fn pop3(&mut self) {
        let stamp = format!("<{}.{}@mx>", self.random.word(9), self.random.word(9));
        self.turn("", format!("+OK POP3 {stamp}"));
        self.secrets.push(stamp.into_bytes());
        for _ in 0..1 + self.random.below(3) {
            let end = ["+OK", "-ERR"][self.random.below(2)];
            match self.random.below(3) {
                0 => self.authenticate("AUTH", "+ ", end, "-ERR"),
                1 => {
                    let digest = self.random.word(32);
                    self.secrets.push(digest.clone().into_bytes());
                    let (apop, words) = (self.spelled("APOP"), self.words());
                    self.turn(format!("{apop} user {digest}"), format!("{end} {words}"));
                }
                _ => {
                    self.turn("USER someone", "+OK");
                    let (pass, password) = (self.spelled("PASS"), self.password());
                    let words = self.words();
                    self.turn(format!("{pass} {password}"), format!("{end} {words}"));
                }
            }
        }
        self.turn("QUIT", "+OK bye");
        self.shown.push("> +OK bye".to_owned());
    }

    fn imap(&mut self) {
        self.turn("", "* OK IMAP4rev1 ready");
        for number in 0..1 + self.random.below(3) {
            let tag = format!("a{number}");
            let end = format!("{tag} {}", ["OK", "NO", "BAD"][self.random.below(3)]);
            if self.random.one_in(3) {
                self.authenticate_imap(&tag, &end);
            } else {
                self.login(&tag, &end);
            }
        }
        self.turn("z LOGOUT", "* BYE bye\r\nz OK bye");
        self.shown.push("> z OK bye".to_owned());
    }

    /// As for the others, but what follows a refusal begins with what the server takes for a tag.
    fn authenticate_imap(&mut self, tag: &str, end: &str) {
        let before = self.turns.len();
        self.authenticate(&format!("{tag} AUTHENTICATE"), "+ ", end, "* BAD");
        for (client, server) in &mut self.turns[before + 1..] {
            if server.starts_with(b"* BAD") {
                let tag = client.trim_ascii_end().to_vec();
                server.splice(..1, tag);
            }
        }
    }

    /// RFC 9051 6.2.3: both arguments as atom, quoted or literal; literals wait or do not.
    fn login(&mut self, tag: &str, end: &str) {
        let user = self.random.word(8);
        self.secrets.push(user.clone().into_bytes());
        let password = self.password();
        let mut line = format!("{tag} {} ", self.spelled("LOGIN"));
        self.shown.push(format!("{tag} "));
        for (argument, blank) in [(user, " "), (password, "")] {
            match self.random.below(4) {
                0 if argument.bytes().all(|byte| byte.is_ascii_alphanumeric()) => line += &argument,
                1 => {
                    line += &format!("{{{}+}}\r\n{argument}", argument.len());
                }
                2 => {
                    self.turn(format!("{line}{{{}}}", argument.len()), "+ go on");
                    line = argument;
                }
                _ => {
                    let quoted = argument.replace('\\', "\\\\").replace('"', "\\\"");
                    line += &format!("\"{quoted}\"");
                }
            }
            line += blank;
        }
        let words = self.words();
        self.turn(line, format!("{end} {words}"));
    }

    /// Any case of letters and, in SMTP and POP3, any blanks.
    fn spelled(&mut self, words: &str) -> String {
        let (case, blanks) = (self.random.below(3), [" ", "\t", "  "][self.random.below(3)]);
        let mut parts = words.split(' ');
        let first = parts.next().unwrap_or_default();
        // A tag, and a mechanism that `shown` wants to see, stay as they are.
        let cased = |word: &str| match (case, word) {
            (0, "AUTH" | "AUTHENTICATE" | "PASS" | "APOP" | "LOGIN") => word.to_ascii_lowercase(),
            (1, "AUTH") => "AuTh".to_owned(),
            _ => word.to_owned(),
        };
        let blank = if first.starts_with('a') { " " } else { blanks };
        parts.fold(cased(first), |line, word| format!("{line}{blank}{}", cased(word)))
    }
}

/// xorshift64*: the same dialogues in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).expect("32 bits") % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn letters(&mut self, length: usize) -> String {
        self.word(4 * length).chars().filter(char::is_ascii_alphabetic).take(length).collect()
    }

    fn word(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        (0..length).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }

    /// Cuts a step at up to three places.
    fn chop(&mut self, (side, bytes): Step) -> Vec<Step> {
        let mut pieces = vec![bytes];
        for _ in 0..self.below(4) {
            let last = pieces.pop().unwrap_or_default();
            let (one, two) = last.split_at(self.below(last.len() + 1));
            pieces.extend([one.to_vec(), two.to_vec()]);
        }
        pieces.into_iter().map(|piece| (side, piece)).collect()
    }
}
