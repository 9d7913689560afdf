//! What must hold for whatever a client, a caller or a database says; shared with the fuzzer.
#![allow(dead_code)]

use authcheck::cost;
use authcheck::record::{FIRST_LINE, Record, value};
use authcheck::request::{Order, Request, write};
use authcheck::sasl::{Exchange, Mechanism, Step};
use authcheck::scram::{Channel, NONCE, Verifier};
use authcheck::text;
use authcheck::verify::Proof;

/// The first byte says who speaks, the rest is what is said.
pub fn holds_for(input: &[u8]) {
    let Some((who, said)) = input.split_first() else { return };
    match who % 4 {
        0 => client(said),
        1 => caller(said),
        2 => database(said),
        _ => encoded(said),
    }
}

/// Messages of an exchange, one a line: nobody who knows no password comes to its end, by any mechanism.
fn client(said: &[u8]) {
    let exporter = [7; 32];
    for mechanism in Mechanism::ALL {
        for channel in [Channel::None, Channel::Unused, Channel::Bound(&exporter)] {
            let (_, mut exchange) = mechanism.begin(&[1; 16], "mx.test");
            for message in said.split(|byte| *byte == b'\n') {
                exchange = match exchange.answer(message, channel) {
                    Step::Ask(_, next) => next,
                    Step::Salt(first) => {
                        let nobody = Verifier::of_nobody(&[5; 32], &first.login, 4096);
                        Exchange::ScramFinal(Box::new(first.challenge(nobody, &[2; NONCE])))
                    }
                    Step::Judge(login, proof) => {
                        // RFC 4616 2; other logins are looked at before they are looked up.
                        let plain = mechanism == Mechanism::Plain;
                        assert!(!plain || !login.is_empty() && !login.contains(&0));
                        assert!(!matches!(proof, Proof::Password(secret) if secret.contains(&0)));
                        break;
                    }
                    Step::Proven(..) | Step::Done(..) => panic!("in without a password"),
                    Step::Disproven(_) | Step::Fault(_) => break,
                }
            }
        }
    }
}

/// Descriptor 3: what is taken apart is what was put together.
fn caller(said: &[u8]) {
    for order in [Order::ByForm, Order::Hoffmann, Order::Dabrowski, Order::Plain] {
        let Ok(request) = Request::parse(said, order) else { continue };
        assert!(!request.login.contains(&0) && (1..=2).contains(&request.proofs.len()));
        let Some(proof) = request.proofs.first().filter(|_| order != Order::Plain) else {
            continue;
        };
        let again = Request::parse(&write(&request.login, proof, order), order).unwrap();
        assert_eq!((&again.login, again.proofs.first()), (&request.login, Some(proof)));
    }
}

/// A value of users.cdb: an own one comes back as it was, and no variable breaks out of its line.
fn database(said: &[u8]) {
    let Ok(record) = Record::parse(said) else { return };
    let controls = |text: &String| text.chars().any(char::is_control);
    assert!(!record.env.iter().any(|(name, value)| controls(name) || controls(value)));
    if said.starts_with(FIRST_LINE.as_bytes()) {
        assert_eq!(Record::parse(&value(&record.fields())), Ok(record));
    }
}

/// Hash strings, verifiers and base64: read in one way only.
fn encoded(said: &[u8]) {
    if let Some(bytes) = text::decode(said) {
        assert_eq!(text::encode(&bytes).as_bytes(), said, "RFC 4954 4: strictly");
    }
    let Ok(text) = str::from_utf8(said) else { return };
    assert!(cost::check(text).is_err() || text.starts_with(cost::work(text)));
    if let Some(verifier) = Verifier::parse(text) {
        assert_eq!(Verifier::parse(&verifier.text()), Some(verifier));
    }
}
