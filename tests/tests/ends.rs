//! Where a message ends, on the whole chain: every end that some smtpd might see, and what comes to the queue.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;

use chain_tests::programs::root;
use chain_tests::server::Builder;
use chain_tests::{CHAIN, Client, Server, peers};

const SYMBOLS: [u8; 5] = [b'\r', b'\n', b'.', 0, b'x'];

/// What a smuggler puts behind an end that only one of two programs sees.
const SMUGGLED: &[u8] = b"MAIL FROM:<smuggled@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\nsmuggled\r\n.\r\n";

// DESIGN 6.4, RFC 5321 4.1.1.4: only CRLF.CRLF is an end; no second message is smuggled in, a mail is accepted only whole,
// and no bare CR or LF comes to the queue.
#[test]
fn every_end_in_one_segment_in_clear() {
    every_end(&smtpd(), false, &all_bodies(6), &[]);
}

#[test]
fn every_end_in_one_segment_inside_tls() {
    every_end(&smtpd(), true, &all_bodies(6), &[]);
}

#[test]
fn ends_split_at_random() {
    let mut random = Random(7);
    let seeds: Vec<u64> = (0..500).map(|_| random.next()).collect();
    let body = |&seed| [b"body", &string(6, Random(seed).next())[..]].concat();
    let bodies: Vec<_> = seeds.iter().map(body).collect();
    for tls in [false, true] {
        every_end(&smtpd(), tls, &bodies, &seeds);
    }
}

// A program that takes a bare LF for the end of a line sees no other end of a message either.
// Predecessor: tlswrapper-smtp made CRLF of every LF, and two messages of one.
#[test]
fn every_end_before_mailfront() {
    let server = Server::new("starttls-wrap setuidgid nobody ./smtpfront-qmail");
    if peers::mailfront(&server.folder) {
        let program = Program { server: recording(server), refuses_bare: false };
        every_end(&program, false, &all_bodies(5), &[]);
    }
}

// DESIGN 6: "starttls-wrap and greylist: relays that decide"; both see the ends that smtpd sees, one behind the other and greylist alone.
#[test]
fn every_end_through_the_other_relays() {
    for rings in ["starttls-wrap recordio-tls greylist", "recordio-tls greylist"] {
        let server = Server::new(&format!("{rings} setuidgid nobody smtpd"));
        fs::create_dir(server.folder.path("grey")).expect("make the store's folder");
        if root() {
            server.folder.give("grey");
        }
        let store = server.folder.text("grey/store");
        let server = server.env("GREYLIST_DB", &store).env("GREYLIST", "log");
        let program = Program { server: recording(server), refuses_bare: true };
        every_end(&program, false, &all_bodies(5), &[]);
        let relayed = program.server.log().contains("greylist: ");
        assert!(relayed, "greylist looked at nothing");
    }
}

/// What stands behind the wrapper.
struct Program {
    server: Server,
    /// Whether a bare CR or LF is all that it takes to be refused.
    refuses_bare: bool,
}

fn smtpd() -> Program {
    Program { server: recording(Server::new(CHAIN)), refuses_bare: true }
}

fn recording(server: Builder) -> Server {
    let queue = server.folder.text("record-queue");
    fs::copy(env!("CARGO_BIN_EXE_record-queue"), &queue).expect("copy the queue");
    server.folder.write("record", "");
    if root() {
        server.folder.give("record");
    }
    let record = server.folder.text("record");
    server.env("QMAILQUEUE", &queue).env("RECORD", &record).start()
}

/// Sends every body; where there are seeds, in pieces cut at random.
fn every_end(program: &Program, tls: bool, bodies: &[Vec<u8>], seeds: &[u64]) {
    let next = AtomicUsize::new(0);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = Session { program, tls, client: None, refused: 0 };
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(body) = bodies.get(number) else { return session.end() };
                    let input = [body, SMUGGLED].concat();
                    let cuts = seeds.get(number).map(|&seed| Random(seed).cuts(input.len()));
                    session.send(number, &input, &cuts.unwrap_or_default());
                }
            });
        }
    });
    program.server.idle();
    check(program, bodies, &records(&program.server));
}

/// Every string of at most `longest` symbols behind a word, and of one less where the message begins.
fn all_bodies(longest: u32) -> Vec<Vec<u8>> {
    let strings = |longest: u32| {
        (0..=longest)
            .flat_map(|length| (0..5_u64.pow(length)).map(move |index| string(length, index)))
    };
    let behind = strings(longest).map(|string| [b"body", &string[..]].concat());
    behind.chain(strings(longest - 1)).collect()
}

fn string(length: u32, mut index: u64) -> Vec<u8> {
    let symbols = (0..length).map(|_| {
        let symbol = SYMBOLS[(index % 5) as usize];
        index /= 5;
        symbol
    });
    symbols.collect()
}

/// What must become of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is queued, as this.
    Queued(Vec<u8>),
    /// Its only fault is a bare CR or LF: 550 after its end, and the session goes on.
    Bare,
    /// Somebody might see another end: 550, and the session ends.
    Ambiguous,
}

/// The fate of the message, and whether the client said more behind its end.
fn fate(input: &[u8]) -> (Fate, bool) {
    let padded = [b"\r\n", input].concat();
    let end = padded.windows(5).position(|window| window == b"\r\n.\r\n").expect("an end");
    let body = &input[..end];
    let without_nul: Vec<u8> =
        padded[..end + 2].iter().copied().filter(|&byte| byte != 0).collect();
    let is_end = |byte| byte == b'\r' || byte == b'\n';
    let bare = |at: usize| match body[at] {
        b'\r' => body.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || body[at - 1] != b'\r',
        _ => false,
    };
    let fate = if without_nul.windows(3).any(|w| is_end(w[0]) && w[1] == b'.' && is_end(w[2])) {
        Fate::Ambiguous
    } else if (0..body.len()).any(bare) {
        Fate::Bare
    } else {
        let lines = body.split_inclusive(|&byte| byte == b'\n');
        let unstuffed = lines.map(|line| line.strip_prefix(b".").unwrap_or(line));
        Fate::Queued(
            unstuffed
                .collect::<Vec<_>>()
                .concat()
                .into_iter()
                .filter(|&byte| byte != b'\r')
                .collect(),
        )
    };
    (fate, end + 3 < input.len())
}

/// One client, which connects again where it must.
struct Session<'a> {
    program: &'a Program,
    tls: bool,
    client: Option<Client>,
    refused: u32,
}

impl Session<'_> {
    fn send(&mut self, number: usize, input: &[u8], cuts: &[usize]) {
        let mut client = self.client.take().unwrap_or_else(|| self.connect());
        client.send(format!(
            "MAIL FROM:<{number}@client.test>\r\nRCPT TO:<postmaster@mx.test>\r\nDATA\r\n"
        ));
        for code in ["250 ", "250 ", "354 "] {
            let reply = client.reply();
            assert!(reply.starts_with(code), "{reply} in\n{}", client.transcript());
        }
        client.send_cut(input, cuts);
        let reply = client.reply();
        let (fate, more) = fate(input);
        let expected = match fate {
            Fate::Queued(_) => "250 ",
            Fate::Bare if self.program.refuses_bare => "550 5.5.2 bare ",
            Fate::Bare => "250 ",
            Fate::Ambiguous => "550 5.5.2 ambiguous end of data",
        };
        assert!(reply.starts_with(expected), "not {expected} in\n{}", client.transcript());
        if fate == Fate::Ambiguous {
            client.closed();
            return;
        }
        self.refused += u32::from(!reply.starts_with("250"));
        // smtpd counts errors, and ends a session with 20 of them.
        if more || self.refused > 15 {
            self.client = Some(client);
            return self.end();
        }
        self.client = Some(client);
    }

    fn connect(&mut self) -> Client {
        self.refused = 0;
        let mut client = self.program.server.connect();
        client.reply();
        if self.tls {
            client.starttls();
        }
        client.expect("EHLO client.test", "250");
        client
    }

    /// Says QUIT, whatever is still to come of what was said before.
    fn end(&mut self) {
        if let Some(mut client) = self.client.take() {
            client.send("QUIT\r\n");
            let rest = client.rest();
            assert!(rest.windows(4).any(|code| code == b"221 "), "{}", rest.escape_ascii());
        }
    }
}

/// A message and its envelope.
type Record = (Vec<u8>, Vec<u8>);

fn records(server: &Server) -> Vec<Record> {
    let file = fs::read(server.folder.path("record")).expect("read the records");
    let (mut rest, mut records) = (&file[..], Vec::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n').expect("a record");
        let lengths = str::from_utf8(&rest[..end]).expect("lengths").split_once(' ').expect("two");
        let (message, envelope): (usize, usize) =
            (lengths.0.parse().expect("a length"), lengths.1.parse().expect("a length"));
        let (record, behind) = rest[end + 1..].split_at(message + envelope);
        records.push((record[..message].to_vec(), record[message..].to_vec()));
        rest = behind;
    }
    records
}

/// Compares what came to the queue with what was to come there.
fn check(program: &Program, bodies: &[Vec<u8>], records: &[Record]) {
    let mut queued: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for (message, envelope) in records {
        let clean = !message.contains(&b'\r') || !program.refuses_bare;
        assert!(clean, "a CR came to the queue: {}", message.escape_ascii());
        // No envelope: the message was given up.
        if let Some(sender) =
            envelope.split(|&byte| byte == 0).next().and_then(|from| from.strip_prefix(b"F"))
        {
            assert!(
                envelope.ends_with(b"\0Tpostmaster@mx.test\0\0"),
                "{}",
                envelope.escape_ascii()
            );
            queued.entry(String::from_utf8_lossy(sender).into_owned()).or_default().push(message);
        }
    }
    let mut open_ends = 0;
    for (number, body) in bodies.iter().enumerate() {
        let got = queued.remove(&format!("{number}@client.test")).unwrap_or_default();
        let input = [body, SMUGGLED].concat();
        let (fate, more) = fate(&input);
        open_ends += usize::from(more && fate != Fate::Ambiguous);
        match (fate, &got[..]) {
            (Fate::Queued(_) | Fate::Bare, [message]) if !program.refuses_bare => {
                let whole = message.windows(9).any(|window| window == b"smuggled\n");
                assert!(whole || more, "{} of {}", message.escape_ascii(), input.escape_ascii());
            }
            (Fate::Queued(text), [message]) => {
                let received = message.strip_suffix(&text[..]).unwrap_or_else(|| {
                    panic!("{} of {}", message.escape_ascii(), input.escape_ascii())
                });
                let mut lines = received.split_inclusive(|&byte| byte == b'\n');
                assert!(lines.next().is_some_and(|line| line.starts_with(b"Received: ")));
                assert!(
                    lines.all(|line| line.starts_with(b" ") || line.starts_with(b"\t")),
                    "{}",
                    received.escape_ascii()
                );
            }
            (Fate::Queued(_), _) => panic!("queued {} times: {}", got.len(), input.escape_ascii()),
            (_, []) => {}
            _ => panic!("a refused message was queued: {}", input.escape_ascii()),
        }
    }
    // Behind a true end the second message is one that the client really sent.
    let second = queued.remove("smuggled@client.test").unwrap_or_default();
    assert!(second.len() <= open_ends, "{} of {open_ends}", second.len());
    assert!(queued.is_empty(), "{queued:?}");
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn cuts(&mut self, length: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> =
            (0..4).map(|_| 1 + self.next() as usize % (length - 1)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}
