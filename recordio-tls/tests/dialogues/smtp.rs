//! SMTP: AUTH among mail.

use super::Dialogue;
use super::exchange::Frame;

impl Dialogue {
    pub fn smtp(&mut self) {
        self.turn("", "220-mx ESMTP\r\n220 ready");
        self.turn(
            "EHLO client",
            "250-mx\r\n250-AUTH PLAIN LOGIN CRAM-MD5\r\n250-CHUNKING\r\n250 PIPELINING",
        );
        let challenge = self.any(&["334 ", "334 ", "334-aGVsbG8=\r\n334 "]);
        let frame = Frame { tag: "", command: "AUTH", challenge, unknown: "500 5.5.1" };
        if challenge.len() > 4 {
            self.form("334 of several lines");
        }
        if self.random.one_in(6) {
            self.slip(frame.unknown);
        }
        for _ in 0..1 + self.random.below(3) {
            match self.random.below(8) {
                0 | 1 => self.mail(),
                2 => self.chunks(),
                3 => self.other_secrets(),
                _ => {}
            }
            let end = self.any(&["235 2.7.0", "535 5.7.8", "454", "501 5.5.2", "538 5.7.11"]);
            self.authenticate(&frame, end);
        }
        if self.random.one_in(6) {
            self.form("QUIT with a password");
            let secret = self.password();
            self.turn(format!("QUIT {secret}"), format!("501 5.5.4 not {secret}"));
        }
        self.turn("QUIT", "221 bye");
        self.shown.push("> 221 ".to_owned());
    }

    fn mail(&mut self) {
        self.form("a message");
        let (user, private) = (self.hidden(9), self.hidden(20));
        self.turn(format!("MAIL FROM:<a@b> AUTH={user}"), "250 ok");
        self.turn("RCPT TO:<c@d>", "250 ok");
        self.turn("DATA", "354 go");
        let dots = self.any(&["", "..\r\n", "AUTH PLAIN\r\n", ".x\r\n", "\r\n"]);
        let end = std::mem::replace(&mut self.line_end, "\r\n");
        self.turn(format!("Subject: {private}\r\n{dots}."), "250 queued");
        self.line_end = end;
        self.shown.push("< [body ".to_owned());
    }

    fn chunks(&mut self) {
        self.form("chunks");
        let private = self.hidden(20);
        self.turn(format!("BDAT 20{}{private}BDAT 0 LAST", self.line_end), "250 ok\r\n250 queued");
        self.shown.push("< [chunk 20 bytes".to_owned());
    }

    fn other_secrets(&mut self) {
        let secret = self.hidden(12);
        let (form, command) = self.any(&[
            ("XCLIENT", "XCLIENT NAME=a LOGIN="),
            ("BURL", "BURL imap://x;urlauth="),
            ("a command that nobody knows", "XSECRET "),
            ("HTTP", "Authorization: Basic "),
        ]);
        self.form(form);
        self.turn(format!("{command}{secret}"), format!("500 5.5.2 {secret}?"));
    }
}
