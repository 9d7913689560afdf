//! Sessions that make no sense: whatever a client says, the program queues for those, and only those, that the client was granted.

use super::*;

/// A walk that looks random and is always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// A client that keeps account of what it was told.
struct Accountant {
    session: Session,
    mail: Option<String>,
    /// Whether MAIL came twice: programs differ in what becomes of the first one's recipients.
    nested: bool,
    granted: Vec<String>,
    queued: Vec<(String, Vec<String>)>,
    chunks: bool,
}

impl Accountant {
    /// The code of the reply, if there is one.
    fn say(&mut self, text: &str, pieces: usize) -> Option<u16> {
        let before = self.session.heard.len();
        for piece in text.as_bytes().chunks(pieces) {
            self.session.client(piece);
        }
        let reply = text_of_last_line(&self.session.heard[before..]);
        reply.get(..3).and_then(|code| code.parse().ok())
    }

    fn step(&mut self, dice: &mut Dice, keeps: bool) {
        let pieces = 1 + dice.roll(30);
        match dice.roll(20) {
            0..=5 => {
                let sender = dice.one(&["a@x.example", "b@x.example", "", "c@bad.example"]);
                let more = dice.one(&["", " SIZE=9", " BODY=8BITMIME"]);
                if self.say(&format!("MAIL FROM:<{sender}>{more}\r\n"), pieces) == Some(250) {
                    self.nested |= self.mail.is_some();
                    self.mail = Some(format!("<{sender}>{more}"));
                    if !keeps {
                        self.granted.clear();
                    }
                }
            }
            6..=12 => {
                let to =
                    dice.one(&["b@y.example", "c@y.example", "free@y.example", "nobody@y.example"]);
                if self.say(&format!("RCPT TO:<{to}>\r\n"), pieces) == Some(250) {
                    self.granted.push(format!("<{to}>"));
                }
            }
            13 => {
                let reset = dice.one(&["RSET\r\n", "EHLO c\r\n", "HELO c\r\n", " rset \r\n"]);
                if self.say(reset, pieces) == Some(250) {
                    self.forget();
                    self.chunks |= reset.starts_with('E');
                }
            }
            14..=16 => match self.say("DATA\r\n", pieces) {
                Some(354) => {
                    assert!(!self.granted.is_empty(), "354 for nobody");
                    assert_eq!(self.say(BODY, pieces), Some(250));
                    self.delivered();
                }
                Some(450) => self.refused(),
                _ => {}
            },
            17 if self.chunks => {
                let last = dice.one(&["", " LAST"]);
                match self.say(&format!("BDAT 6{last}\r\nQUIT\r\n"), pieces) {
                    Some(250) if !last.is_empty() => self.delivered(),
                    Some(450) => self.refused(),
                    _ => {}
                }
            }
            18 => {
                let end = dice.one(&["*\r\n", "x\r\n*\r\n", "x\r\ny\r\n"]);
                self.say(&format!("AUTH LOGIN\r\n{end}"), pieces);
            }
            _ => {
                self.say(dice.one(&["NOOP\r\n", "VRFY x\r\n", "NO\0OP\r\n"]), pieces);
            }
        }
    }

    fn delivered(&mut self) {
        self.queued.push((self.mail.take().unwrap(), std::mem::take(&mut self.granted)));
        self.nested = false;
    }

    /// Only a null sender's recipients are taken back.
    fn refused(&mut self) {
        let null = self.mail.as_ref().is_some_and(|mail| mail.starts_with("<>"));
        assert!(null || self.nested || self.granted.is_empty(), "{:?}", self.granted);
        self.forget();
    }

    fn forget(&mut self) {
        self.mail = None;
        self.nested = false;
        self.granted.clear();
    }
}

fn text_of_last_line(heard: &[u8]) -> String {
    text(heard).lines().last().unwrap_or_default().to_owned()
}

// DESIGN 5: "ghosts (recipients that smtpd took and the client was refused) and real recipients never coexist"
#[test]
fn nobody_gets_mail_that_the_client_was_not_granted_and_nobody_misses_any() {
    let mut dice = Dice(20_261_125);
    let (mut mails, mut grey) = (0, 0);
    for round in 0..3_000 {
        let quirk = match dice.roll(5) {
            0 => Some(Quirk::Wordy),
            1 => Some(Quirk::OneMail),
            2 => Some(Quirk::Forgetless),
            3 => Some(Quirk::Gullible),
            _ => None,
        };
        let site = Site::new()
            .rules("pass recipient free@\nrefuse sender @bad.example\ndelay 5 recipient c@")
            .smtpd(quirk.map_or_else(Smtpd::default, Smtpd::with));
        if quirk.is_some() && dice.roll(9) == 0 {
            site.store.0.borrow_mut().full = true;
        }
        for _ in 0..3 {
            let mut client = Accountant {
                session: Session::new(&site, 1 + dice.roll(40)),
                mail: None,
                nested: false,
                granted: Vec::new(),
                queued: Vec::new(),
                chunks: false,
            };
            for _ in 0..30 {
                client.step(&mut dice, quirk == Some(Quirk::Forgetless));
                site.later(u64::try_from(dice.roll(4)).unwrap());
            }
            site.later([0, 2, 61, 90_000][dice.roll(4)]);
            let heard = text(&client.session.heard);
            let queued: Vec<_> = client
                .session
                .smtpd
                .queued
                .iter()
                .map(|(mail, recipients, _)| (mail.clone(), recipients.clone()))
                .collect();
            assert_eq!(queued, client.queued, "round {round} {quirk:?}\n{heard}");
            mails += queued.len();
            grey += heard.matches("450 4.7.1").count();
        }
    }
    assert!(mails > 4_000 && grey > 10_000, "{mails} {grey}");
}
