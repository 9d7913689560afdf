//! What an attempt costs the password process, by who asks: the times must not tell whether a login exists.
//!
//! `cargo bench -p benches --bench auth`. The kinds of attempts take turns in one run; the delays that follow failures are left out.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a measurement fails by panicking"
)]

use std::fs;
use std::time::{Duration, Instant};

use authcheck::facts::{Facts, SECRET};
use authcheck::password;
use authcheck::record::{self, Record};
use authcheck::scram::{ITERATIONS, Verifier};
use authcheck::secret::Secret;
use authcheck::service::{Environment, Keeper, Service};
use authcheck::store::{self, Users};
use authcheck::text;

/// Attempts of each kind.
const TRIES: usize = 200;

/// Accounts beside those that are asked for: the sum of the file is part of every attempt.
const ACCOUNTS: usize = 1_000;

const KINDS: [&str; 5] = ["right", "wrong", "disabled", "expired", "unknown"];

fn main() {
    let path = std::env::temp_dir().join(format!("bench-auth-{}", std::process::id()));
    fs::write(&path, database()).expect("write users.cdb");
    let attempts: [(&str, Attempt); 2] = [("PLAIN", plain), ("SCRAM-SHA-256", scram)];
    for (mechanism, attempt) in attempts {
        let mut times = KINDS.map(|_| Vec::with_capacity(TRIES));
        for turn in 0..TRIES {
            for step in 0..KINDS.len() {
                let kind = (turn + step) % KINDS.len();
                let users = Users::open(&path).map_err(|error| error.to_string());
                let environment =
                    Environment { allowed: true, host: "h".into(), ..Environment::default() };
                let mut service = Service::new(Keeper::Users(users), environment);
                let begin = Instant::now();
                attempt(&mut service, KINDS[kind]);
                times[kind].push(begin.elapsed());
            }
        }
        let medians = times.map(median);
        let wrong = medians[1].as_secs_f64();
        for (kind, time) in KINDS.iter().zip(medians) {
            let ratio = time.as_secs_f64() / wrong;
            println!("{mechanism:13} {kind:9} {time:>10.1?}  {ratio:.3} of a wrong password's");
        }
    }
    fs::remove_file(&path).expect("remove users.cdb");
}

/// One attempt by somebody of this kind.
type Attempt = fn(&mut Service, &str);

fn plain(service: &mut Service, kind: &str) {
    let (login, password) = if kind == "right" { ("wrong", "secret") } else { (kind, "another") };
    let message = text::encode(format!("\0{login}\0{password}").as_bytes());
    let answer = service.line(format!("AUTH PLAIN {message}").as_bytes());
    assert_eq!(answer.say.starts_with("235"), kind == "right", "{kind}: {}", answer.say);
}

/// The first step, where the login is looked up, and the second with a proof that is wrong.
fn scram(service: &mut Service, kind: &str) {
    let login = if kind == "right" { "wrong" } else { kind };
    let first = text::encode(format!("n,,n={login},r=abc").as_bytes());
    let challenge = service.line(format!("AUTH SCRAM-SHA-256 {first}").as_bytes()).say;
    let challenge = text::decode(&challenge.trim_end().as_bytes()[4..]).expect("base64");
    let nonce = challenge.split(|byte| *byte == b',').next().expect("a nonce");
    let last = [b"c=biws,", nonce, b",p=", text::encode(&[0; 32]).as_bytes()].concat();
    let answer = service.line(format!("LINE {}", text::encode(&last)).as_bytes());
    assert!(answer.say.starts_with("535"), "{kind}: {}", answer.say);
}

fn database() -> Vec<u8> {
    let hash = password::argon2id(b"secret", &[7; 16]).expect("argon2id");
    let scram = Verifier::new(b"secret", &[7; 16], ITERATIONS).text();
    let secrets = format!("v=1\npw={hash}\nscram-sha-256={scram}\n");
    let mut records = vec![
        ("wrong".to_owned(), secrets.clone()),
        ("disabled".to_owned(), format!("{secrets}disabled=1\n")),
        ("expired".to_owned(), format!("{secrets}expires=1\n")),
    ];
    records.extend((0..ACCOUNTS).map(|count| (format!("account{count}"), secrets.clone())));
    let records: Vec<_> = records
        .into_iter()
        .map(|(login, text)| (login, Record::parse(text.as_bytes()).expect("a record")))
        .collect();
    let facts = Facts::of(records.iter().map(|(_, r)| r), Secret::new(vec![7; SECRET]));
    let values: Vec<_> = records
        .iter()
        .map(|(login, record)| (login.clone().into_bytes(), record::value(&record.fields())))
        .collect();
    store::compile(&facts, &values).expect("users.cdb")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
