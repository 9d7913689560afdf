//! Commands: a verb and its arguments.

/// What the client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// HELO (RFC 5321 4.1.1.1).
    Helo,
    /// EHLO (RFC 5321 4.1.1.1).
    Ehlo,
    /// MAIL (RFC 5321 4.1.1.2).
    Mail,
    /// RCPT (RFC 5321 4.1.1.3).
    Rcpt,
    /// DATA (RFC 5321 4.1.1.4).
    Data,
    /// BDAT (RFC 3030 2).
    Bdat,
    /// RSET (RFC 5321 4.1.1.5).
    Rset,
    /// NOOP (RFC 5321 4.1.1.9).
    Noop,
    /// VRFY (RFC 5321 4.1.1.6).
    Vrfy,
    /// EXPN (RFC 5321 4.1.1.7).
    Expn,
    /// HELP (RFC 5321 4.1.1.8).
    Help,
    /// QUIT (RFC 5321 4.1.1.10).
    Quit,
    /// AUTH (RFC 4954 4).
    Auth,
    /// STARTTLS (RFC 3207 4).
    StartTls,
    /// Anything else.
    Other,
}

impl Verb {
    /// Whether what follows must wait for the reply: the reply changes what the next line is or who reads it.
    pub(crate) fn is_barrier(self) -> bool {
        use Verb::*;
        matches!(self, Data | Auth | StartTls | Ehlo | Bdat | Quit)
    }
}

/// A command line taken apart; parsing cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The verb, in any case of letters (RFC 5321 2.4).
    pub verb: Verb,
    /// What follows it, blanks at both ends taken off.
    pub args: &'a [u8],
}

impl<'a> Command<'a> {
    /// Takes a line without its end apart.
    ///
    /// Blanks before the verb and all kinds of blanks behind it count as some programs take them,
    /// so that no program sees a command where a relay in front of it saw none.
    pub fn parse(line: &'a [u8]) -> Command<'a> {
        let line = trim(line);
        let end = line.iter().position(|&byte| is_blank(byte)).unwrap_or(line.len());
        let (verb, args) = line.split_at_checked(end).unwrap_or((line, &[]));
        Command { verb: verb_of(verb), args: trim(args) }
    }
}

/// The size of a BDAT chunk and whether it is the last; none if the arguments are malformed (RFC 3030 2).
pub fn chunk(args: &[u8]) -> Option<(u64, bool)> {
    let mut words = args.split(|&byte| is_blank(byte)).filter(|word| !word.is_empty());
    let digits = words.next()?;
    if digits.len() > CHUNK_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = str::from_utf8(digits).ok()?.parse().ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((size, last))
}

fn verb_of(word: &[u8]) -> Verb {
    VERBS
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name))
        .map_or(Verb::Other, |(_, verb)| *verb)
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let Some((first, rest)) = bytes.split_first()
        && is_blank(*first)
    {
        bytes = rest;
    }
    while let Some((last, rest)) = bytes.split_last()
        && is_blank(*last)
    {
        bytes = rest;
    }
    bytes
}

/// What isspace(3) takes for a blank, the line ends left out.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c)
}

const VERBS: [(&[u8], Verb); 14] = [
    (b"HELO", Verb::Helo),
    (b"EHLO", Verb::Ehlo),
    (b"MAIL", Verb::Mail),
    (b"RCPT", Verb::Rcpt),
    (b"DATA", Verb::Data),
    (b"BDAT", Verb::Bdat),
    (b"RSET", Verb::Rset),
    (b"NOOP", Verb::Noop),
    (b"VRFY", Verb::Vrfy),
    (b"EXPN", Verb::Expn),
    (b"HELP", Verb::Help),
    (b"QUIT", Verb::Quit),
    (b"AUTH", Verb::Auth),
    (b"STARTTLS", Verb::StartTls),
];

/// 19 digits always fit an unsigned 64-bit number.
const CHUNK_DIGITS: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 5321 2.4: verbs are not case sensitive.
    #[test]
    fn verbs_and_arguments() {
        for (line, verb, args) in [
            (&b"NOOP"[..], Verb::Noop, &b""[..]),
            (b"noop  x y ", Verb::Noop, b"x y"),
            (b" \tStartTLS", Verb::StartTls, b""),
            (b"STARTTLS foo", Verb::StartTls, b"foo"),
            (b"AUTH\tPLAIN AGEAYg==", Verb::Auth, b"PLAIN AGEAYg=="),
            (b"AUTH\x0bPLAIN", Verb::Auth, b"PLAIN"),
            (b"MAIL FROM:<>", Verb::Mail, b"FROM:<>"),
            (b"MAILFROM:<>", Verb::Other, b""),
            (b"", Verb::Other, b""),
            (b"Q", Verb::Other, b""),
            (b"QUITE", Verb::Other, b""),
        ] {
            assert_eq!(Command::parse(line), Command { verb, args }, "{}", line.escape_ascii());
        }
    }

    // RFC 3030 2: bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF
    #[test]
    fn chunk_sizes() {
        for (args, chunk_of) in [
            (&b"0 LAST"[..], Some((0, true))),
            (b"86 last", Some((86, true))),
            (b"9999999999999999999", Some((9_999_999_999_999_999_999, false))),
            (b"10000000000000000000", None),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b"1x", None),
            (b"1 LAST x", None),
            (b"1 FIRST", None),
            (b"LAST", None),
        ] {
            assert_eq!(chunk(args), chunk_of, "{}", args.escape_ascii());
        }
    }
}
