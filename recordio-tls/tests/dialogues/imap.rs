//! IMAP: LOGIN with atoms, quoted strings and literals, AUTHENTICATE.

use super::Dialogue;
use super::exchange::Frame;

impl Dialogue {
    pub fn imap(&mut self) {
        self.turn("", "* OK IMAP4rev1 ready");
        for number in 0..1 + self.random.below(3) {
            let tag = self.any(&["a", "A00", "x.", "-", "y_"]);
            let tag = format!("{tag}{number}");
            let end = format!("{tag} {}", self.any(&["OK", "NO", "BAD"]));
            match self.random.below(6) {
                0 | 1 => self.authenticate_imap(&tag, &end),
                2 => self.mailbox(&tag),
                3 => self.odd_tag(),
                _ => self.login(&tag, &end),
            }
        }
        self.turn("z LOGOUT", "* BYE bye\r\nz OK bye");
        self.shown.push("> z OK".to_owned());
    }

    /// As for the others, but what follows a refusal begins with what the server takes for a tag.
    fn authenticate_imap(&mut self, tag: &str, end: &str) {
        self.form("AUTHENTICATE");
        let before = self.turns.len();
        let frame = Frame { tag, command: "AUTHENTICATE", challenge: "+ ", unknown: "* BAD" };
        self.authenticate(&frame, end);
        for (client, server) in &mut self.turns[before + 1..] {
            if server.starts_with(b"* BAD") {
                let tag = client.trim_ascii_end().to_vec();
                server.splice(..1, tag);
            }
        }
    }

    /// RFC 9051 6.2.3: both arguments as atom, quoted or literal; literals wait or do not.
    fn login(&mut self, tag: &str, end: &str) {
        let user = self.hidden(8);
        let password = self.password();
        let mut line = self.spelled(tag, "LOGIN ");
        self.shown.push(format!("{tag} LOGIN"));
        for (argument, blank) in [(user, " "), (password, "")] {
            match self.random.below(4) {
                0 if argument.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    self.form("LOGIN with an atom");
                    line += &argument;
                }
                1 => {
                    self.form("LOGIN with a literal at once");
                    line += &format!("{{{}+}}{}{argument}", argument.len(), self.line_end);
                }
                2 => {
                    self.form("LOGIN with a literal");
                    self.turn(format!("{line}{{{}}}", argument.len()), "+ go on");
                    line = argument;
                }
                _ => {
                    self.form("LOGIN with a quoted string");
                    let quoted = argument.replace('\\', "\\\\").replace('"', "\\\"");
                    line += &format!("\"{quoted}\"");
                }
            }
            line += blank;
        }
        let words = self.words();
        self.turn(line, format!("{end} {words}"));
    }

    fn mailbox(&mut self, tag: &str) {
        match self.random.below(3) {
            0 => {
                self.form("APPEND");
                let private = self.hidden(20);
                self.turn(format!("{tag} APPEND inbox {{20}}"), "+ go on");
                self.turn(private, format!("{tag} OK done"));
            }
            1 => {
                self.form("IDLE");
                self.turn(format!("{tag} IDLE"), "+ idling\r\n* 4 EXISTS");
                self.turn("DONE", format!("{tag} OK done"));
            }
            _ => {
                self.form("FETCH");
                let private = self.hidden(20);
                self.turn(
                    format!("{tag} FETCH 1 (BODY[])"),
                    format!("* 1 FETCH (BODY[] {{20}}\r\n{private})\r\n{tag} OK done"),
                );
            }
        }
    }

    /// A tag that no client should send may be anything.
    fn odd_tag(&mut self) {
        self.form("an odd tag");
        let (tag, password) = (format!("{}+", self.hidden(20)), self.password());
        self.turn(format!("{tag} LOGIN u \"{}\"", password.len()), format!("{tag} NO {password}"));
    }
}
