//! What is shown of TLS from outside, and of what is no TLS where it should be.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::expect_used)]
#![allow(clippy::panic)]

mod common;

use common::{DEFAULT, Step, cut, log, singly, steps};
use plumb::middle::Side;
use recordio_tls::story::{Grammar, Story};
use recordio_tls::watch::{TlsBy, Watch};

/// Two bytes of length in front.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(body)].concat()
}

fn key_share(group: u16, length: usize) -> Vec<u8> {
    [&group.to_be_bytes()[..], &with_length(&vec![7; length])].concat()
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

/// A client's hello as browsers send it: GREASE (RFC 8701) everywhere, a hybrid key share of 1,216 bytes, an encrypted hello inside.
fn browsers_hello() -> Vec<u8> {
    let name = b"outer.example";
    let server_name = [&[0][..], &with_length(name)].concat();
    let shares = [key_share(0x2a2a, 1), key_share(0x11ec, 1216), key_share(0x001d, 32)].concat();
    let extensions = [
        extension(0x5a5a, b""),
        extension(0, &with_length(&server_name)),
        extension(10, &with_length(&numbers(&[0x2a2a, 0x11ec, 0x001d, 0x0017]))),
        extension(13, &with_length(&numbers(&[0x0403, 0x0804]))),
        extension(16, &with_length(b"\x04smtp\x02h2")),
        extension(43, &[&[6][..], &numbers(&[0x7a7a, 0x0304, 0x0303])].concat()),
        extension(51, &with_length(&shares)),
        extension(0xfe0d, &[0; 200]),
        extension(0x3a3a, b"\0"),
    ];
    let ciphers = with_length(&numbers(&[0x4a4a, 0x1301, 0x1302, 0xc02b]));
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[32],
        &[8; 32],
        &ciphers,
        &[1, 0],
        &with_length(&extensions.concat()),
    ];
    message(1, &body.concat())
}

fn server_hello(random: [u8; 32], cipher: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    let extensions = if extensions.is_empty() { Vec::new() } else { with_length(&extensions) };
    message(2, &[&[3, 3][..], &random, &[0], &cipher.to_be_bytes(), &[0], &extensions].concat())
}

/// In records of at most `size` bytes.
fn records(kind: u8, payload: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[kind, 3, 3][..], &with_length(part)].concat();
    payload.chunks(size).flat_map(record).collect()
}

/// The notes of a session that begins with TLS; the same however it is cut.
fn noted(turns: &[(Side, Vec<u8>)]) -> Vec<String> {
    let steps: Vec<Step> = turns.to_vec();
    let whole = log(DEFAULT, &steps);
    assert_eq!(log(DEFAULT, &singly(&steps)), whole);
    for offset in (1..1800).step_by(17) {
        assert_eq!(log(DEFAULT, &cut(&steps, offset)), whole, "cut at {offset}");
    }
    whole.lines().filter(|line| !line.starts_with("- ")).map(str::to_owned).collect()
}

const C: Side = Side::Client;
const S: Side = Side::Server;

/// RFC 8446 4.1.3.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

const HELLO: &str = "< [TLS ClientHello sni=outer.example versions=TLSv1.3,TLSv1.2 groups=X25519MLKEM768,x25519,secp256r1 \
                     keys=X25519MLKEM768,x25519 alpn=smtp,h2 ciphers=3 encrypted_hello]";

// RFC 8701, RFC 9849: GREASE is no offer, and of an encrypted hello only the outer name is seen; whatever the records.
#[test]
fn a_browsers_hello_in_records_of_every_size() {
    let hello = browsers_hello();
    assert!(hello.len() > 1400);
    for size in [1, 2, 5, 100, 1000, 16384] {
        assert_eq!(noted(&[(C, records(22, &hello, size))]), [HELLO]);
    }
    // Its first half, and never the rest.
    let cut_off = noted(&[(C, records(22, &hello, 16384)[..700].to_vec())]);
    assert_eq!(cut_off, ["< [TLS cut off inside a record]"]);
}

// RFC 8446 4.1.4: the server may want another share, and the hello comes twice.
#[test]
fn a_retry() {
    let retry = [extension(43, &[3, 4]), extension(51, &[0, 0x17])];
    let chosen = [extension(43, &[3, 4]), extension(51, &key_share(0x17, 65))];
    let hello = records(22, &browsers_hello(), 16384);
    let turns = [
        (C, hello.clone()),
        (S, records(22, &server_hello(RETRY, 0x1301, &retry), 16384)),
        (C, [records(20, &[1], 1), hello].concat()),
        (S, records(22, &server_hello([5; 32], 0x1301, &chosen), 16384)),
        (S, [records(20, &[1], 1), records(23, &[7; 900], 900)].concat()),
        (C, records(23, &[7; 74], 74)),
    ];
    let retried =
        "> [TLS HelloRetryRequest version=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 group=secp256r1]";
    let served =
        "> [TLS ServerHello version=TLSv1.3 cipher=TLS_AES_128_GCM_SHA256 group=secp256r1]";
    assert_eq!(noted(&turns), [HELLO, retried, HELLO, served]);
}

// RFC 5246: alerts are readable until ChangeCipherSpec, and visible behind it; an end without one may be anybody's.
#[test]
fn before_tls_1_3() {
    let hello = (C, records(22, &browsers_hello(), 16384));
    let served = (S, records(22, &server_hello([5; 32], 0xc02b, &[]), 16384));
    let encrypted = [records(20, &[1], 1), records(22, &[7; 40], 40)].concat();
    let told = "> [TLS ServerHello version=TLSv1.2 cipher=ECDHE-ECDSA-AES128-GCM-SHA256]";

    let refused = noted(&[hello.clone(), (S, records(21, &[2, 40], 2))]);
    assert_eq!(refused, [HELLO, "> [TLS alert fatal handshake_failure]"]);

    let ended = [(C, encrypted.clone()), (S, encrypted.clone())];
    let cut_off = noted(&[&[hello.clone(), served.clone()][..], &ended].concat());
    let without = ["< [TLS end without an alert]", "> [TLS end without an alert]"];
    assert_eq!(cut_off, [&[HELLO, told][..], &without].concat());

    let alert = records(21, &[7; 26], 26);
    let closed =
        [(C, [encrypted.clone(), alert.clone()].concat()), (S, [encrypted, alert].concat())];
    let closed = noted(&[&[hello, served][..], &closed].concat());
    assert_eq!(closed, [HELLO, told, "< [TLS alert encrypted]", "> [TLS alert encrypted]"]);
}

// What speaks something else where TLS is due, from the first byte on or behind STARTTLS, is named and not shown.
#[test]
fn what_is_no_tls() {
    let alert = records(21, &[2, 70], 2);
    let refused = "> [TLS alert fatal protocol_version]";
    for (said, note) in [
        (&b"GET /secret HTTP/1.1\r\n"[..], "< [HTTP and not TLS, not shown]"),
        (b"POST /secret HTTP/1.1\r\n", "< [HTTP and not TLS, not shown]"),
        (b"EHLO secret\r\n", "< [NOT TLS, not shown]"),
        (b"EHLO", "< [NOT TLS, not shown]"),
        (b"\x80\x2e\x01\x00\x02secret", "< [SSLv2 ClientHello]"),
        (b"\x16\x03\x01\xff\xffsecret", "< [NOT TLS (a record too long), not shown]"),
    ] {
        let mut first = noted(&[(C, said.to_vec()), (S, alert.clone())]);
        first.sort();
        assert_eq!(first, [note, refused], "from the first byte");
        let behind = noted(
            &[
                &steps("S: 220 mx\nC: STARTTLS\nS: 220 go")[..],
                &[(C, said.to_vec()), (S, alert.clone())],
            ]
            .concat(),
        );
        assert!(behind.contains(&note.to_owned()), "{behind:?}");
    }
    let silent = noted(&[(C, b"\x80\x2e\x01\x00\x02secret".to_vec())]);
    assert_eq!(silent, ["< [SSLv2 ClientHello]"]);
    // The server goes on in clear, after it has agreed to TLS.
    let session = [&steps("S: 220 mx\nC: STARTTLS\nS: 220 go\nS: 250 secret")[..], &[]].concat();
    assert_eq!(noted(&session).last().map(String::as_str), Some("> [NOT TLS, not shown]"));
}

// A client set up for port 465 that comes to port 25, 110 or 143, with the greeting before its hello or behind it.
#[test]
fn tls_that_nobody_has_asked_for() {
    let hello = records(22, &browsers_hello(), 16384);
    for (greeting, refusal) in
        [("220 mx", "500 what"), ("+OK", "-ERR what"), ("* OK hi", "* BAD what")]
    {
        let session = [
            &steps(&format!("S: {greeting}"))[..],
            &[(C, hello.clone())],
            &steps(&format!("S: {refusal}")),
        ];
        let notes = noted(&session.concat());
        let expected = ["< [TLS without STARTTLS]", HELLO, "> [NOT TLS, not shown]"];
        assert_eq!(notes[1..], expected, "{greeting}");
    }
    let early = noted(&[&[(C, hello)][..], &steps("S: 220 mx")].concat());
    assert_eq!(early, [HELLO, "> [NOT TLS, not shown]"]);
}

// UCSPI-TLS: only an agreed STARTTLS hands the client's socket over, in each protocol; a hello that nobody asked for does not.
#[test]
fn the_client_is_handed_over_where_tls_is_agreed_on() {
    for (script, handed) in [
        ("S: 220 mx\nC: STARTTLS\nS: 220 go", true),
        ("S: 220 mx\nC: starttls\nS: 220-go\nS: 220 on", true),
        ("S: +OK\nC: STLS\nS: +OK go", true),
        ("S: * OK\nC: a STARTTLS\nS: a OK go", true),
        ("S: 220 mx\nC: STARTTLS", false),
        ("S: 220 mx\nC: STARTTLS\nS: 220-go", false),
        ("S: 220 mx\nC: STARTTLS\nS: 454 no", false),
        ("S: +OK\nC: STLS\nS: -ERR no", false),
        ("S: * OK\nC: a STARTTLS\nS: a NO", false),
        ("S: 220 mx\nC: \\x16\\x03\\x01...", false),
        ("C: \\x16\\x03\\x01...", false),
    ] {
        for steps in [steps(script), singly(&steps(script))] {
            let mut story = Story::new(Grammar::Own, 7, "5f.7");
            let mut watch = Watch::new(None, TlsBy::Ucspi, DEFAULT);
            steps.iter().for_each(|(side, bytes)| watch.bytes(*side, bytes, &mut story));
            assert_eq!(watch.handed_over(), handed, "{script}");
            let noted = String::from_utf8_lossy(story.lines()).contains("TLS by UCSPI-TLS");
            assert_eq!(noted, handed, "{script}");
        }
    }
}

// Firewalls write X over what they do not want the two to agree on.
#[test]
fn what_a_firewall_has_written_over() {
    let log = log(
        DEFAULT,
        &steps(
            "S: 220 mx
             C: XXXX client.test
             S: 500 what
             C: EHLO client.test
             S: 250-mx
             S: 250-XXXXXXXA
             S: 250-XCLIENT NAME
             S: 250 XXXB",
        ),
    );
    let note = "[STRIPPED: somebody between has written over a command with X]";
    assert_eq!(log.matches(&format!("< {note}")).count(), 1, "{log}");
    assert_eq!(log.matches(&format!("> {note}")).count(), 2, "{log}");
    assert!(log.contains("> 250-XXXXXXXA\\r \n"), "{log}");
}
