//! Sessions as transcripts, and what the log makes of them.
#![allow(dead_code)]

use plumb::middle::Side;
use recordio_tls::message::Show;
use recordio_tls::redact::Settings;
use recordio_tls::story::{Grammar, Story};
use recordio_tls::watch::{TlsBy, Watch};

/// What one side sends at once.
pub type Step = (Side, Vec<u8>);

/// Nothing that is not shown by default.
pub const DEFAULT: Settings = Settings { show: Show::Size, users: false };

/// All that can be shown.
pub const ALL: Settings = Settings { show: Show::Whole, users: true };

/// The log of a session, each line without its head.
pub fn log(settings: Settings, steps: &[Step]) -> String {
    let mut story = Story::new(Grammar::Own, 7, "5f.7");
    let mut watch = Watch::new(None, TlsBy::Program, settings);
    for (from, bytes) in steps {
        watch.bytes(*from, bytes, &mut story);
    }
    watch.eof(Side::Client, &mut story);
    watch.eof(Side::Server, &mut story);
    watch.finish(&mut story);
    let text = String::from_utf8(story.lines().to_vec()).expect("ASCII");
    text.lines().map(|line| format!("{}\n", line.strip_prefix(HEAD).expect("a head"))).collect()
}

/// `C: ` and `S: ` lines, each sent at once with its CRLF; `\r`, `\n`, `\t`, `\0` and `\xNN` as in Rust, `...` behind a line leaves its end out.
pub fn steps(script: &str) -> Vec<Step> {
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (side, text) = match line.split_at_checked(2) {
                Some(("C:", text)) => (Side::Client, text),
                Some(("S:", text)) => (Side::Server, text),
                _ => panic!("no transcript line: {line}"),
            };
            let text = text.strip_prefix(' ').unwrap_or(text);
            let (text, end) = match text.strip_suffix("...") {
                Some(text) => (text, &b""[..]),
                None => (text, &b"\r\n"[..]),
            };
            (side, [&unescape(text)[..], end].concat())
        })
        .collect()
}

/// Plays a transcript and compares the log, in which `\r ` at the end of a line is left out.
pub fn shows(settings: Settings, script: &str, expected: &str) {
    let log = log(settings, &steps(script));
    let log: Vec<&str> =
        log.lines().map(|line| line.strip_suffix("\\r ").unwrap_or(line)).collect();
    let log: Vec<&str> = log.into_iter().filter(|line| !line.starts_with("- [end ")).collect();
    let expected: Vec<&str> =
        expected.lines().map(str::trim_start).filter(|line| !line.is_empty()).collect();
    assert_eq!(log, expected, "\n{}\n", log.join("\n"));
}

/// The same bytes in the same order, every step cut at this offset where it is so long.
pub fn cut(steps: &[Step], offset: usize) -> Vec<Step> {
    let cut = |(side, bytes): &Step| {
        let (one, two) = bytes.split_at(offset.min(bytes.len()));
        [(*side, one.to_vec()), (*side, two.to_vec())]
    };
    steps.iter().flat_map(cut).collect()
}

/// The same bytes in the same order, one by one.
pub fn singly(steps: &[Step]) -> Vec<Step> {
    let single = |(side, bytes): &Step| {
        let side = *side;
        bytes.iter().map(move |&byte| (side, vec![byte])).collect::<Vec<_>>()
    };
    steps.iter().flat_map(single).collect()
}

/// No four bytes of `hunter2...` and of its base64 are in the log, whatever is asked for and however it is cut.
pub fn never_seen(script: &str) -> String {
    let session = steps(script);
    let whole = log(DEFAULT, &session);
    all_cuts(&session, &whole);
    for settings in [DEFAULT, Settings { show: Show::Header, users: true }, ALL] {
        let whole = log(settings, &session);
        for secret in SECRETS {
            for part in secret.as_bytes().windows(4) {
                let part = String::from_utf8_lossy(part);
                assert!(!whole.contains(&*part), "{part} is shown of\n{script}\n{whole}");
            }
        }
    }
    whole
}

/// A password, and `test`, `\0test\0hunter2hunter2` and the password in base64.
const SECRETS: [&str; 4] =
    ["hunter2hunter2", "ZXN0", "AHRlc3QAaHVudGVyMmh1bnRlcjI=", "aHVudGVyMmh1bnRlcjI="];

/// However a session is cut, the log is this one.
pub fn all_cuts(steps: &[Step], whole: &str) {
    let longest = steps.iter().map(|(_, bytes)| bytes.len()).max().unwrap_or(0);
    for offset in 1..longest {
        assert_eq!(log(DEFAULT, &cut(steps, offset)), whole, "cut at {offset}");
    }
    assert_eq!(log(DEFAULT, &singly(steps)), whole);
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                u8::from_str_radix(str::from_utf8(&digits).expect("hex"), 16).expect("hex")
            }
            other => panic!("unknown escape {other:?} in {text}"),
        });
    }
    bytes
}

const HEAD: &str = "recordio-tls: 7: 5f.7 ";
