//! The Received line that goes before the message, and the count of those that are in it.

use std::time::{SystemTime, UNIX_EPOCH};

/// What the Received line tells of the session.
#[derive(Clone, Debug, Default)]
pub struct Trace<'a> {
    /// Name of the client, verified or not; none is "unknown".
    pub remote_host: Option<&'a [u8]>,
    /// Address of the client.
    pub remote_ip: Option<&'a [u8]>,
    /// What identd or AUTH said of the client.
    pub remote_info: Option<&'a [u8]>,
    /// Name or address on this side.
    pub local: Option<&'a [u8]>,
    /// What the client called itself.
    pub helo: Option<&'a [u8]>,
    /// Whether it said EHLO.
    pub extended: bool,
    /// Whether it has authenticated itself.
    pub authenticated: bool,
    /// What is known of TLS: none without TLS, else version and cipher, perhaps empty.
    pub tls: Option<&'a [u8]>,
}

impl Trace<'_> {
    /// The header line, ended by LF, in qmail's layout (RFC 5321 4.4).
    pub fn header(&self, now: SystemTime) -> Vec<u8> {
        let mut line = b"Received: from ".to_vec();
        put(&mut line, self.remote_host);
        if self.helo.is_some_and(|helo| !helo.eq_ignore_ascii_case(or_unknown(self.remote_host))) {
            line.extend_from_slice(b" (HELO ");
            put(&mut line, self.helo);
            line.push(b')');
        }
        line.extend_from_slice(b" (");
        if self.remote_info.is_some() {
            put(&mut line, self.remote_info);
            line.push(b'@');
        }
        put(&mut line, self.remote_ip);
        line.extend_from_slice(b")\n  by ");
        put(&mut line, self.local);
        line.extend_from_slice(b" with ");
        line.extend_from_slice(self.protocol().as_bytes());
        if let Some(tls) = self.tls.filter(|tls| !tls.is_empty()) {
            line.extend_from_slice(b" (");
            line.extend(tls.iter().map(|&byte| if byte == b' ' { byte } else { safe(byte) }));
            line.push(b')');
        }
        line.extend_from_slice(format!("; {}\n", date(now)).as_bytes());
        line
    }

    /// RFC 3848; HELO knows no extension, so it is SMTP whatever carried it.
    fn protocol(&self) -> &'static str {
        match (self.extended, self.tls.is_some(), self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false) => "ESMTP",
            (true, true, false) => "ESMTPS",
            (true, false, true) => "ESMTPA",
            (true, true, true) => "ESMTPSA",
        }
    }
}

fn put(line: &mut Vec<u8>, value: Option<&[u8]>) {
    line.extend(or_unknown(value).iter().map(|&byte| safe(byte)));
}

fn or_unknown(value: Option<&[u8]>) -> &[u8] {
    value.unwrap_or(b"unknown")
}

/// What may stand in the line unquoted; the underscore, that qmail hides, is needed in cipher names.
fn safe(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || b".@%+/=:-[]_".contains(&byte) { byte } else { b'?' }
}

/// RFC 5322 3.3, in a zone that says nothing of the place.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{day} {month} {year} {hour:02}:{minute:02}:{second:02} -0000")
}

/// Year, month and day of month of a day counted from 1 January 1970.
fn civil(mut days: u64) -> (u64, &'static str, u64) {
    let mut year = 1970;
    loop {
        let leap = u64::from(is_leap(year));
        let length = 365_u64.saturating_add(leap);
        let Some(left) = days.checked_sub(length) else { break };
        (days, year) = (left, year.saturating_add(1));
    }
    for (name, length) in MONTHS {
        let length = if name == "Feb" && is_leap(year) { 29 } else { length };
        match days.checked_sub(length) {
            Some(left) => days = left,
            None => return (year, name, days.saturating_add(1)),
        }
    }
    (year, "Dec", 31)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const MONTHS: [(&str, u64); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// Counts the lines of a header that begin with Received or Delivered, as qmail does, to find loops.
#[derive(Debug, Default)]
pub struct Hops {
    seen: u32,
    /// The first bytes of the line that is being read.
    line: Vec<u8>,
    body: bool,
}

impl Hops {
    /// Reads on in a message whose lines end in LF.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !self.body && !bytes.is_empty() {
            let end = wire::find_line_end(bytes).unwrap_or(bytes.len());
            let (text, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            let wanted = PREFIX.saturating_sub(self.line.len());
            self.line.extend(text.iter().take(wanted));
            let Some((byte, rest)) = rest.split_first() else { return };
            bytes = rest;
            if *byte == b'\n' {
                self.end_line();
            }
        }
    }

    /// Whether the message has been passed on too often (RFC 5321 6.3).
    pub fn are_too_many(&self) -> bool {
        self.seen >= HOP_LIMIT
    }

    fn end_line(&mut self) {
        self.body = self.line.is_empty();
        let begins = |word: &[u8]| {
            self.line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        if begins(b"received") || begins(b"delivered") {
            self.seen = self.seen.saturating_add(1);
        }
        self.line.clear();
    }
}

/// As many bytes of a line as decide: those of "delivered".
const PREFIX: usize = 9;

/// RFC 5321 6.3: "at least 100 Received entries".
const HOP_LIMIT: u32 = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn header(trace: &Trace<'_>) -> String {
        String::from_utf8(trace.header(at(1_795_192_860))).unwrap()
    }

    #[test]
    fn the_layout_is_qmails() {
        let mut trace = Trace {
            remote_host: Some(b"client.example"),
            remote_ip: Some(b"192.0.2.7"),
            local: Some(b"mx.example.org"),
            helo: Some(b"Client.Example"),
            extended: true,
            ..Trace::default()
        };
        assert_eq!(
            header(&trace),
            "Received: from client.example (192.0.2.7)\n  by mx.example.org with ESMTP; \
             20 Nov 2026 16:41:00 -0000\n"
        );
        trace.helo = Some(b"[evil)\r\nX: y] \xff");
        trace.remote_info = Some(b"login");
        trace.remote_host = None;
        trace.tls = Some(b"TLSv1.3 TLS_AES_256_GCM_SHA384");
        assert_eq!(
            header(&trace),
            "Received: from unknown (HELO [evil???X:?y]??) (login@192.0.2.7)\n  by mx.example.org \
             with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384); 20 Nov 2026 16:41:00 -0000\n"
        );
        assert!(
            header(&Trace::default())
                .starts_with("Received: from unknown (unknown)\n  by unknown with SMTP; ")
        );
    }

    // RFC 3848: the eight combinations.
    #[test]
    fn protocol_words() {
        for (extended, tls, authenticated, word) in [
            (false, false, false, "SMTP"),
            (false, false, true, "SMTP"),
            (false, true, false, "SMTP"),
            (false, true, true, "SMTP"),
            (true, false, false, "ESMTP"),
            (true, false, true, "ESMTPA"),
            (true, true, false, "ESMTPS"),
            (true, true, true, "ESMTPSA"),
        ] {
            let tls = tls.then_some(&b""[..]);
            let trace = Trace { extended, tls, authenticated, ..Trace::default() };
            assert!(header(&trace).contains(&format!(" with {word};")), "{word}");
        }
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1 Jan 1970 00:00:00 -0000"),
            (951_782_399, "28 Feb 2000 23:59:59 -0000"),
            (951_782_400, "29 Feb 2000 00:00:00 -0000"),
            (4_107_542_400, "1 Mar 2100 00:00:00 -0000"),
            (1_798_761_599, "31 Dec 2026 23:59:59 -0000"),
        ] {
            assert_eq!(date(at(seconds)), text);
        }
    }

    fn looping(lines: usize, line: &str, rest: &str) -> [bool; 2] {
        let message = format!("{}{rest}", line.repeat(lines));
        let (mut whole, mut split) = (Hops::default(), Hops::default());
        whole.read(message.as_bytes());
        message.bytes().for_each(|byte| split.read(&[byte]));
        [whole.are_too_many(), split.are_too_many()]
    }

    // RFC 5321 6.3: a loop is found by counting, with a large limit.
    #[test]
    fn a_hundred_hops_are_too_many() {
        assert_eq!(looping(99, "Received: x\n", "\nReceived: in the body\n"), [false; 2]);
        assert_eq!(looping(100, "Received: x\n", ""), [true; 2]);
        assert_eq!(looping(100, "dELIVERED-To: x\n", "\n"), [true; 2]);
        assert_eq!(looping(100, "X-Received: x\n Received: y\nReceive\n", "\n"), [false; 2]);
        assert_eq!(looping(100, "\nReceived: x\n", ""), [false; 2]);
    }
}
