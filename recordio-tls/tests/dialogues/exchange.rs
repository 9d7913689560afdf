//! Exchanges of all mechanisms, in the frame of each protocol.

use super::Dialogue;

/// What a protocol puts around an exchange.
pub struct Frame<'a> {
    /// A tag, or nothing.
    pub tag: &'a str,
    /// The command in front of the mechanism.
    pub command: &'a str,
    /// What stands before a challenge.
    pub challenge: &'a str,
    /// The answer to a line that is no command, when nobody has asked for an answer.
    pub unknown: &'a str,
}

impl Dialogue {
    /// What client and server say in turn, in base64, the client first; challenges are hidden but for LOGIN's.
    fn exchange(&mut self, mechanism: &str) -> Vec<(String, String)> {
        let (user, password) = (self.secret.word(8), self.password());
        match mechanism {
            "LOGIN" => {
                let answers = [user, password].map(|answer| self.hidden_base64(answer));
                let prompts = ["VXNlcm5hbWU6", "UGFzc3dvcmQ6"].map(str::to_owned);
                prompts.into_iter().zip(answers).collect()
            }
            "PLAIN" => vec![(String::new(), self.hidden_base64(format!("\0{user}\0{password}")))],
            "CRAM-MD5" | "DIGEST-MD5" | "NTLM" => {
                let challenge = format!("<{}@mx>", self.secret.word(12));
                let digest = self.secret.word(32);
                vec![(
                    self.hidden_base64(challenge),
                    self.hidden_base64(format!("{user} {digest}")),
                )]
            }
            "XOAUTH2" | "OAUTHBEARER" => {
                let token = format!("user={user}\x01auth=Bearer {password}\x01\x01");
                vec![(String::new(), self.hidden_base64(token))]
            }
            _ => (0..1 + self.random.below(3)).map(|step| self.step_of_many(step)).collect(),
        }
    }

    fn step_of_many(&mut self, step: usize) -> (String, String) {
        let mut part = |name: &str| format!("{name}={}", self.secret.word(9));
        let (challenge, answer) =
            (format!("{},{}", part("r"), part("s")), format!("{},{}", part("r"), part("p")));
        let challenge = if step == 0 { String::new() } else { self.hidden_base64(challenge) };
        (challenge, self.hidden_base64(answer))
    }

    /// One exchange, however it goes; `end` is the status of its last reply.
    pub fn authenticate(&mut self, frame: &Frame<'_>, end: &str) {
        let mechanism = self.any(&MECHANISMS);
        self.form(mechanism);
        let mut exchange = self.exchange(mechanism);
        let mut first = self.spelled(frame.tag, &format!("{} {mechanism}", frame.command));
        self.shown.push(mechanism.to_owned());
        match self.random.below(5) {
            0 | 1 => {
                // SASL-IR: the first challenge was empty, or the mechanism's fixed one.
                self.form("initial response");
                let (_, initial) = exchange.remove(0);
                first = format!("{first} {initial}");
            }
            2 if exchange[0].0.is_empty() => {
                self.form("empty initial response");
                first = format!("{first} =");
            }
            _ => {}
        }
        if self.random.one_in(5) {
            return self.refused(frame, first, exchange, end);
        }
        let cancels = self.random.one_in(6);
        let mut line = first;
        for (prompt, answer) in exchange {
            self.turn(line, format!("{}{prompt}", frame.challenge));
            line = if cancels { "*".to_owned() } else { answer };
            if cancels {
                self.form("cancelled");
                break;
            }
        }
        let words = self.words();
        self.turn(line, format!("{end} {words}"));
    }

    /// Refused at once, but the client goes on, and servers take that for commands.
    fn refused(
        &mut self,
        frame: &Frame<'_>,
        first: String,
        exchange: Vec<(String, String)>,
        end: &str,
    ) {
        self.form("refused at once");
        let words = self.words();
        self.turn(first, format!("{end} {words}"));
        for (_, answer) in exchange {
            let words = self.words();
            self.turn(answer, format!("{} {words}", frame.unknown));
        }
        self.slip(frame.unknown);
    }

    /// A password where a command is expected, as short as a verb and in letters only.
    pub fn slip(&mut self, unknown: &str) {
        self.form("a password as command");
        let secret = self.secret.letters(8);
        self.secrets.push(secret.clone().into_bytes());
        self.turn(&secret, format!("{unknown} {secret}?"));
    }
}

const MECHANISMS: [&str; 12] = [
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
