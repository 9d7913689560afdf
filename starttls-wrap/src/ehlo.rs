//! The reply to EHLO: collected whole, then shown as the policy has it (RFC 5321 4.1.1.1).

use wire::ReplyLine;

/// What the client must not see, and what it must.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// STARTTLS is put in as the second line.
    pub starttls: bool,
    /// AUTH stays.
    pub auth: bool,
    /// REQUIRETLS stays (RFC 8689 2: only inside TLS).
    pub requiretls: bool,
}

/// The lines of a reply so far.
#[derive(Debug, Default)]
pub struct EhloReply {
    lines: Vec<Vec<u8>>,
    size: usize,
}

/// A finished reply.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// What the client gets.
    pub reply: Vec<u8>,
    /// The program takes BDAT (RFC 3030 2).
    pub chunking: bool,
}

impl EhloReply {
    /// Takes the next line in; false if the reply is larger than any real one.
    pub fn push(&mut self, line: &[u8]) -> bool {
        self.size = self.size.saturating_add(line.len());
        self.lines.push(line.to_vec());
        self.lines.len() <= LINE_LIMIT && self.size <= SIZE_LIMIT
    }

    /// Makes of the lines what the client gets, and is empty again; a failed reply stays as it is.
    pub fn finish(&mut self, shown: Shown) -> Finished {
        let lines = std::mem::take(self).lines;
        let succeeded =
            lines.last().and_then(|line| ReplyLine::parse(line)).is_some_and(|l| l.succeeded());
        if !succeeded {
            return Finished { reply: joined(&lines), chunking: false };
        }
        let chunking = lines.iter().skip(1).any(|line| keyword(line) == b"CHUNKING");
        let host = lines.iter().take(1);
        let offers = lines.iter().skip(1).filter(|line| stays(line, shown));
        let mut kept: Vec<&[u8]> = host.chain(offers).map(|line| text(line)).collect();
        if shown.starttls {
            kept.insert(1, b"STARTTLS");
        }
        let last = kept.len().saturating_sub(1);
        let marked = kept.iter().enumerate().map(|(n, text)| {
            let mark: &[u8] = if n == last { b"250 " } else { b"250-" };
            [mark, text].concat()
        });
        Finished { reply: joined(&marked.collect::<Vec<_>>()), chunking }
    }
}

fn stays(line: &[u8], shown: Shown) -> bool {
    match keyword(line).as_slice() {
        b"STARTTLS" => false,
        b"AUTH" => shown.auth,
        b"REQUIRETLS" => shown.requiretls,
        _ => true,
    }
}

/// The keyword in capitals; `AUTH=LOGIN`, an old spelling, counts as AUTH.
fn keyword(line: &[u8]) -> Vec<u8> {
    let word = text(line).split(|&byte| matches!(byte, b' ' | b'\t' | b'=')).next();
    word.unwrap_or_default().to_ascii_uppercase()
}

/// The line behind the code and its mark.
fn text(line: &[u8]) -> &[u8] {
    line.get(4..).unwrap_or_default()
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().chain(b"\r\n")).copied().collect()
}

/// No program known offers more than 20 extensions.
const LINE_LIMIT: usize = 100;
/// 32 times the longest reply line of RFC 5321 4.5.3.1.5.
const SIZE_LIMIT: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAR: Shown = Shown { starttls: true, auth: false, requiretls: false };
    const INSIDE: Shown = Shown { starttls: false, auth: true, requiretls: true };

    fn shown(reply: &str, shown: Shown) -> (String, bool) {
        let mut ehlo = EhloReply::default();
        for line in reply.split_terminator("\r\n") {
            assert!(ehlo.push(line.as_bytes()));
        }
        let finished = ehlo.finish(shown);
        assert!(ehlo.lines.is_empty());
        (String::from_utf8(finished.reply).unwrap(), finished.chunking)
    }

    // DESIGN 5: STARTTLS second, the program's own taken out, AUTH and REQUIRETLS by policy, marks set anew.
    #[test]
    fn extensions_are_shown_as_the_policy_has_it() {
        for (reply, how, expected, chunking) in [
            ("250 host\r\n", CLEAR, "250-host\r\n250 STARTTLS\r\n", false),
            ("250 host\r\n", INSIDE, "250 host\r\n", false),
            (
                "250-host hello\r\n250-PIPELINING\r\n250-chunking\r\n250 AUTH LOGIN\r\n",
                CLEAR,
                "250-host hello\r\n250-STARTTLS\r\n250-PIPELINING\r\n250 chunking\r\n",
                true,
            ),
            (
                "250-host\r\n250-starttls\r\n250-AUTH=LOGIN\r\n250-Auth\tLOGIN\r\n250 REQUIRETLS\r\n",
                CLEAR,
                "250-host\r\n250 STARTTLS\r\n",
                false,
            ),
            (
                "250-host\r\n250-AUTH PLAIN\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n",
                INSIDE,
                "250-host\r\n250-AUTH PLAIN\r\n250 REQUIRETLS\r\n",
                false,
            ),
            ("250-STARTTLS\r\n250 AUTHX\r\n", INSIDE, "250-STARTTLS\r\n250 AUTHX\r\n", false),
            ("502 no\r\n", CLEAR, "502 no\r\n", false),
            ("550-no\r\n550 CHUNKING\r\n", CLEAR, "550-no\r\n550 CHUNKING\r\n", false),
            ("250\r\n", CLEAR, "250-\r\n250 STARTTLS\r\n", false),
        ] {
            assert_eq!(shown(reply, how), (expected.to_owned(), chunking), "{reply:?}");
        }
    }

    #[test]
    fn a_reply_larger_than_any_real_one_is_noticed() {
        let mut ehlo = EhloReply::default();
        assert!((0..100).all(|_| ehlo.push(b"250-X")));
        assert!(!ehlo.push(b"250-X"));
        assert!(!EhloReply::default().push(&[b'x'; 16 * 1024 + 1]));
    }
}
