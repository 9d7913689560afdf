//! 100,000 AUTH dialogues, right and wrong, cut anywhere: the log is the same whatever the secrets are, and holds none of them.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic
)]

#[path = "../common/mod.rs"]
mod common;
mod exchange;
mod imap;
mod pop3;
mod random;
mod smtp;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{DEFAULT, Step, cut, log, singly};
use plumb::middle::Side;
use random::Random;

/// How many dialogues there are, and how many of them are also cut at every byte.
const DIALOGUES: u64 = 100_000;
const SAMPLE: u64 = 250;

// RFC 4954, 1939, 5034, 9051, 4959: whatever the exchange, and wherever it is cut.
#[test]
fn no_secret_is_ever_seen() {
    let mut understood = 0;
    let mut forms = BTreeMap::new();
    for seed in 0..DIALOGUES {
        let mut dialogue = Dialogue::generate(seed, 1);
        let steps = dialogue.steps();
        let shown = log(DEFAULT, &steps);
        dialogue.check(seed, &shown);
        let same_with_other_secrets = log(DEFAULT, &Dialogue::generate(seed, 2).steps());
        assert_eq!(shown, same_with_other_secrets, "dialogue {seed}");
        understood += u64::from(!shown.contains("not shown from here on"));
        dialogue.forms.iter().for_each(|form| *forms.entry(*form).or_insert(0) += 1);
        if seed % SAMPLE == 0 {
            for chopped in all_cuts(&steps) {
                assert_eq!(log(DEFAULT, &chopped), shown, "dialogue {seed}");
            }
        }
    }
    // Nothing is hidden by giving up.
    assert_eq!(understood, DIALOGUES);
    // The generator makes what it was written to make.
    assert!(forms.len() >= 40 && forms.values().all(|&count| count > 300), "{forms:?}");
}

fn all_cuts(steps: &[Step]) -> Vec<Vec<Step>> {
    let longest = steps.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    (1..longest).map(|offset| cut(steps, offset)).chain([singly(steps)]).collect()
}

/// One session: what the client says, and what the server answers to it.
struct Dialogue {
    /// What happens.
    random: Random,
    /// What the secrets in it are.
    secret: Random,
    /// How the client ends its lines.
    line_end: &'static str,
    turns: Vec<(Vec<u8>, Vec<u8>)>,
    /// What must not be seen, as it goes over the wire.
    secrets: Vec<Vec<u8>>,
    /// What must be seen.
    shown: Vec<String>,
    /// Which forms of all there are came up.
    forms: Vec<&'static str>,
}

impl Dialogue {
    fn generate(seed: u64, secrets: u64) -> Dialogue {
        let mut dialogue = Dialogue {
            random: Random::new(seed),
            secret: Random::new(seed.wrapping_mul(7).wrapping_add(secrets)),
            line_end: "\r\n",
            turns: Vec::new(),
            secrets: Vec::new(),
            shown: Vec::new(),
            forms: Vec::new(),
        };
        if dialogue.random.one_in(8) {
            dialogue.forms.push("lines ended by LF");
            dialogue.line_end = "\n";
        }
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
            let (length, part) = (secret.len(), 7.min(secret.len()));
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
                if ahead {
                    self.forms.push("pipelined");
                }
                steps.push((Side::Client, self.turns[said].0.clone()));
                said += 1;
            } else {
                steps.push((Side::Server, self.turns[answered].1.clone()));
                answered += 1;
            }
        }
        steps.into_iter().flat_map(|step| self.random.chop(step)).collect()
    }

    /// A line of the client, and what the server says to it; either may be none.
    fn turn(&mut self, client: impl AsRef<[u8]>, server: impl AsRef<[u8]>) {
        let line = |bytes: &[u8], end: &str| match bytes {
            [] => Vec::new(),
            bytes => [bytes, end.as_bytes()].concat(),
        };
        let client = line(client.as_ref(), self.line_end);
        self.turns.push((client, line(server.as_ref(), "\r\n")));
    }

    fn form(&mut self, form: &'static str) {
        self.forms.push(form);
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len())]
    }

    /// A word that must not be seen.
    fn hidden(&mut self, length: usize) -> String {
        let word = self.secret.word(length);
        self.secrets.push(word.clone().into_bytes());
        word
    }

    /// A password as people have them.
    fn password(&mut self) -> String {
        let odd = self.any(&["", "", " ", "\"", "\\", "{5}", "+", "=", "@", "[", "%"]);
        let password = format!("{}{odd}{}", self.secret.word(9), self.secret.word(5));
        self.secrets.push(password.clone().into_bytes());
        password
    }

    fn hidden_base64(&mut self, bytes: impl AsRef<[u8]>) -> String {
        let encoded = STANDARD.encode(bytes);
        self.secrets.push(encoded.clone().into_bytes());
        encoded
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

    /// Any case of letters and, in SMTP and POP3, any blanks; a tag in front stays as it is.
    fn spelled(&mut self, tag: &str, words: &str) -> String {
        let case = self.random.below(4);
        let mut line = words.to_owned();
        match case {
            0 => line.make_ascii_lowercase(),
            1 => line = line.chars().map(|letter| self.random.case(letter)).collect(),
            _ => {}
        }
        if case < 2 {
            self.form("odd case");
        }
        if !tag.is_empty() {
            return format!("{tag} {line}");
        }
        let blank = self.any(&[" ", " ", "\t", "  ", " \t ", "\x0b"]);
        if blank != " " {
            self.form("odd blanks");
        }
        line.replace(' ', blank)
    }
}
