//! What must hold for any session; shared with the fuzzer.
#![allow(dead_code)]

use plumb::middle::Side;
use recordio_tls::redact::Settings;
use recordio_tls::story::{Grammar, Story};
use recordio_tls::watch::{TlsBy, Watch};

/// The log is printable, and the same however the streams are cut.
///
/// The input is turns: a byte for who speaks (its lowest bit) and how much, then that much.
pub fn holds_for(input: &[u8]) {
    let steps = steps(input);
    let whole = log(&mut steps.iter().copied());
    let singly = log(&mut steps
        .iter()
        .flat_map(|(side, bytes)| bytes.chunks(1).map(move |byte| (*side, byte))));
    assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&singly));
    assert!(whole.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
    assert!(whole.split(|&byte| byte == b'\n').all(|line| line.len() <= 4_000));
}

fn steps(input: &[u8]) -> Vec<(Side, &[u8])> {
    let mut steps = Vec::new();
    let mut rest = input;
    while let Some((&turn, after)) = rest.split_first() {
        let side = if turn % 2 == 0 { Side::Server } else { Side::Client };
        let length = usize::from(turn / 2).min(after.len());
        let (bytes, after) = after.split_at(length);
        steps.push((side, bytes));
        rest = after;
    }
    steps
}

fn log(steps: &mut dyn Iterator<Item = (Side, &[u8])>) -> Vec<u8> {
    let mut story = Story::new(Grammar::Own, 7, "5f.7");
    let mut watch = Watch::new(None, TlsBy::Program, Settings::default());
    for (side, bytes) in steps {
        watch.bytes(side, bytes, &mut story);
    }
    watch.eof(Side::Client, &mut story);
    watch.eof(Side::Server, &mut story);
    watch.finish(&mut story);
    story.lines().to_vec()
}
