//! POP3: PASS, APOP, AUTH.

use super::Dialogue;
use super::exchange::Frame;

impl Dialogue {
    pub fn pop3(&mut self) {
        let stamp = format!("<{}.{}@mx>", self.secret.word(9), self.secret.word(9));
        self.turn("", format!("+OK POP3 {stamp}"));
        self.secrets.push(stamp.into_bytes());
        let frame = Frame { tag: "", command: "AUTH", challenge: "+ ", unknown: "-ERR" };
        if self.random.one_in(4) {
            self.form("CAPA");
            self.turn("CAPA", "+OK\r\nUSER\r\nSASL PLAIN\r\n.");
        }
        for _ in 0..1 + self.random.below(3) {
            let end = self.any(&["+OK", "-ERR"]);
            match self.random.below(5) {
                0 | 1 => self.authenticate(&frame, end),
                2 => {
                    self.form("APOP");
                    let digest = self.hidden(32);
                    let (apop, words) = (self.spelled("", "APOP user "), self.words());
                    self.turn(format!("{apop}{digest}"), format!("{end} {words}"));
                }
                3 => {
                    self.form("PASS");
                    self.turn("USER someone", "+OK");
                    let (pass, password) = (self.spelled("", "PASS "), self.password());
                    let words = self.words();
                    self.turn(format!("{pass}{password}"), format!("{end} {words}"));
                }
                _ => self.slip("-ERR"),
            }
        }
        if self.random.one_in(4) {
            self.form("RETR");
            let private = self.hidden(20);
            self.turn("RETR 1", format!("+OK\r\nSubject: {private}\r\n..\r\n."));
        }
        self.turn("QUIT", "+OK bye");
        self.shown.push("< QUIT".to_owned());
    }
}
