//! What must hold for any input; each function panics where it does not.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::{
    Body, ClientStream, Command, Decoder, Dialogue, Expect, FromClient, Line, LineReader,
    ReplyLine, Verb, Verdict, chunk, domain, find_line_end, literal, parameters, path,
};

/// Lines are the same however the input is cut, and no part of it is kept beyond the limit.
pub fn lines(input: &[u8]) {
    let Some((&seed, input)) = input.split_first() else { return };
    let read = |parts: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = LineReader::new(LIMIT);
        let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
        for part in parts {
            reader.push(part);
            while let Some(line) = reader.next_line() {
                lines.push(match line {
                    Line::Clean(line) => {
                        assert!(find_line_end(line).is_none() && !line.contains(&0));
                        (0, line.to_vec())
                    }
                    Line::Nul(line) => (1, line.to_vec()),
                    Line::Bare(line) => (2, line.to_vec()),
                    Line::TooLong => (3, Vec::new()),
                });
            }
            assert!(reader.rest().len() < LIMIT.max(1));
        }
        lines
    };
    let whole = read(&mut std::iter::once(input));
    assert_eq!(whole, read(&mut input.chunks(usize::from(seed % 16) + 1)));
}

/// A relay and a smtpd agree on where a message ends, and nobody sees an end before it.
pub fn body(input: &[u8]) {
    let Some((&seed, input)) = input.split_first() else { return };
    let size = usize::from(seed % 8) + 1;
    let (passed, verdict) = relayed(input, input.len().max(1));
    assert_eq!((&passed, verdict), (&relayed(input, size).0, relayed(input, size).1));
    let (text, length) = decoded(input, input.len().max(1));
    assert_eq!((&text, length), (&decoded(input, size).0, decoded(input, size).1));
    match verdict {
        Verdict::More => assert!(length.is_none() && passed.len() + 2 >= input.len()),
        Verdict::End => assert_eq!(length, Some(passed.len())),
        Verdict::Ambiguous => {}
    }
    let end = if verdict == Verdict::End { 3 } else { 0 };
    assert!(!loosely_ended(&passed[..passed.len() - end]));
}

/// A chunk is the same however it is cut, and ends with no bare CR unseen.
pub fn chunks(input: &[u8]) {
    let Some((&seed, input)) = input.split_first() else { return };
    let decode = |size: usize| {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        input.chunks(size).for_each(|part| decoder.decode_chunk(part, &mut out));
        decoder.finish_chunks(&mut out);
        (out, decoder.saw_bare())
    };
    let (out, bare) = decode(input.len().max(1));
    assert_eq!((&out, bare), (&decode(usize::from(seed % 8) + 1).0, bare));
    assert!(bare || !out.contains(&b'\r'));
}

/// Any line is a command, and what is taken for the size of a chunk is one.
pub fn command(line: &[u8]) {
    let command = Command::parse(line);
    assert!(command.args.len() <= line.len());
    let padded = [b" ", line, b"\t"].concat();
    assert_eq!(Command::parse(&padded), command);
    if let Some((size, _)) = chunk(command.args) {
        let text = size.to_string();
        assert!(command.args.windows(text.len()).any(|part| part == text.as_bytes()));
    }
}

/// What is read as a reply line reads the same when it is written again.
pub fn reply(line: &[u8]) {
    let Some(parsed) = ReplyLine::parse(line) else { return };
    let mark = if parsed.last { ' ' } else { '-' };
    let again = [format!("{}{mark}", parsed.code).as_bytes(), parsed.text].concat();
    assert_eq!(ReplyLine::parse(&again), Some(parsed));
}

/// An address is printable and bounded, and its parts lie in it.
pub fn paths(args: &[u8]) {
    let Ok((address, rest)) = path(args, b"TO") else { return };
    assert!(address.len() <= args.len() && address.iter().all(|byte| (0x20..0x7f).contains(byte)));
    if let Some(domain) = domain(&address) {
        assert!(address.ends_with(domain));
        let _may_be_none = literal(domain);
    }
    for parameter in parameters(rest).flatten() {
        assert!(!parameter.keyword.is_empty() && parameter.value != Some(b""));
    }
}

/// Whatever two sides say, the dialogue knows what comes next, and a relay's own replies keep their places.
pub fn dialogue(input: &[u8]) {
    let (mut client, mut dialogue) = (ClientStream::new(LIMIT), Dialogue::new());
    let mut script = input;
    while let Some((&step, rest)) = script.split_first() {
        let length = usize::from(step >> 1).min(rest.len());
        let (said, rest) = rest.split_at(length);
        script = rest;
        if step & 1 == 0 {
            client.push(said);
        } else if let Some(line) = ReplyLine::parse(said) {
            let owed = dialogue.owes_reply();
            let answer = dialogue.server(&line);
            assert!(owed || !matches!(answer, crate::FromServer::Reply(_)));
        }
        drain(&mut client, &mut dialogue);
    }
}

fn drain(client: &mut ClientStream, dialogue: &mut Dialogue) {
    loop {
        while dialogue.due().is_some() {}
        let expect = dialogue.expects();
        match client.next(expect) {
            None => return,
            Some(_) if expect == Expect::Nothing => panic!("nothing was to be looked at"),
            Some(FromClient::Command(line)) => follow(&Command::parse(line), dialogue),
            Some(FromClient::AuthResponse(_)) => dialogue.forwarded_auth(),
            Some(FromClient::Bad(_)) if expect == Expect::AuthResponse => {
                dialogue.sent_own_command();
                dialogue.own(b"500 no\r\n");
            }
            Some(FromClient::Bad(_)) => dialogue.own(b"500 no\r\n"),
            Some(FromClient::Body(part)) => assert!(!part.is_empty()),
            Some(FromClient::BodyEnd(part)) => {
                assert!(part.ends_with(b".\r\n"));
                dialogue.body_ended();
            }
            Some(FromClient::Ambiguous(_)) => {
                if client.drain() {
                    dialogue.body_ended();
                }
                return;
            }
            Some(FromClient::Chunk(octets)) => {
                let count = octets.len();
                assert!(matches!(expect, Expect::Chunk(left) if left >= count as u64));
                dialogue.chunk_passed(count);
            }
        }
    }
}

fn follow(command: &Command<'_>, dialogue: &mut Dialogue) {
    match (command.verb, chunk(command.args)) {
        (Verb::Bdat, Some((size, true))) => dialogue.refused_chunk(size, b"503 no\r\n"),
        (Verb::Bdat, Some((size, false))) => dialogue.forwarded_chunk(size),
        (Verb::Bdat, None) => dialogue.own(b"501 no\r\n"),
        (verb, _) => dialogue.forwarded(verb),
    }
}

fn relayed(input: &[u8], size: usize) -> (Vec<u8>, Verdict) {
    let (mut body, mut held, mut passed) = (Body::new(), Vec::new(), Vec::new());
    for part in input.chunks(size) {
        held.extend_from_slice(part);
        let (count, verdict) = body.scan(&held);
        passed.extend(held.drain(..count));
        if verdict != Verdict::More {
            return (passed, verdict);
        }
    }
    (passed, Verdict::More)
}

fn decoded(input: &[u8], size: usize) -> (Vec<u8>, Option<usize>) {
    let (mut decoder, mut out, mut length) = (Decoder::new(), Vec::new(), 0);
    for part in input.chunks(size) {
        let (used, over) = decoder.decode(part, &mut out);
        length += used;
        if over {
            return (out, Some(length));
        }
    }
    (out, None)
}

/// A dot between any line ends, NULs around it left out.
fn loosely_ended(body: &[u8]) -> bool {
    let text = b"\r\n".iter().chain(body).copied().filter(|&byte| byte != 0);
    let text: Vec<u8> = text.collect();
    text.windows(3).any(|w| matches!(w, [b'\r' | b'\n', b'.', b'\r' | b'\n']))
}

const LIMIT: usize = 32;
