//! What a connection costs with greylist and a million entries, beside the same chain without it and beside postgrey's policy lookup.
//!
//! As root, against static release programs (see README.md, Build) and the peers that tests/peers.sh unpacks:
//! `CHAINMAIL_BIN=$PWD/target/x86_64-unknown-linux-gnu/release cargo bench -p benches --bench greylist`.
//! The contestants take turns in one run; only ratios tell something.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a measurement fails by panicking"
)]

mod measure;
#[path = "greylist/postgrey.rs"]
mod postgrey;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chain_tests::Server;
use chain_tests::programs::root;
use greylist::store::sqlite::Sqlite;
use nix::sys::prctl::set_child_subreaper;

use measure::{CONNECTIONS, Contestant, print};
use postgrey::Postgrey;

/// Turns of each contestant.
const TURNS: usize = 12;

/// Entries of each store: half of them known hosts, half waiting triples.
const ENTRIES: usize = 1_000_000;

const WITHOUT: &str = "setuidgid nobody smtpd";
const WITH: &str = "greylist setuidgid nobody smtpd";

fn main() {
    set_child_subreaper(true).expect("adopt orphans");
    let store = Sites::new();
    let off = Server::new(WITH).env("GREYLIST", "0").start();
    let busy = store.server("busy", true);
    // As long as somebody has the store open, nobody else has to find out what its log of changes holds.
    let _held = Sqlite::open(&busy.folder.path("grey/store"), Duration::from_secs(9));
    let mut contestants = vec![
        Contestant::chain("without greylist", Server::new(WITHOUT).start(), "250 "),
        Contestant::chain("GREYLIST=0: started, and no more", off, "250 "),
        Contestant::chain("known host", store.server("known", true), "250 "),
        Contestant::chain("known host, the store in use", busy, "250 "),
        Contestant::chain("unknown host, each triple new", store.server("unknown", false), "450 "),
    ];
    let postgrey = Postgrey::start(ENTRIES);
    let mut policy = [("postgrey: known client", true), ("postgrey: each triple new", false)]
        .map(|(name, known)| (Contestant::named(name), known));
    for turn in 0..TURNS {
        for step in 0..contestants.len() {
            // Another one begins in each turn.
            let index = (turn + step) % contestants.len();
            contestants[index].turn(turn);
        }
        for (contestant, known) in &mut policy {
            let Some(postgrey) = &postgrey else { break };
            // As Postfix does: one connection for many questions.
            let mut client = postgrey.connect();
            let before = postgrey.cpu();
            for number in 0..CONNECTIONS {
                let start = Instant::now();
                client.ask(*known, turn * CONNECTIONS + number);
                contestant.times.push(start.elapsed());
            }
            contestant.cpu += postgrey.cpu() - before;
        }
    }
    contestants.extend(policy.into_iter().map(|(contestant, _)| contestant));
    contestants.retain(|contestant| !contestant.times.is_empty());
    print(&contestants);
}

/// The folder with the stores.
struct Sites {
    now: u64,
}

impl Sites {
    fn new() -> Sites {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        Sites { now }
    }

    /// A server whose store has a million entries, and knows 127.0.0.0/24 or not.
    fn server(&self, name: &str, known: bool) -> Server {
        let server = Server::new(WITH);
        fs::create_dir(server.folder.path("grey")).expect("make the store's folder");
        let store = server.folder.path("grey/store");
        self.fill(&store);
        if known {
            Sqlite::open(&store, Duration::from_secs(9))
                .and_then(|mut store| store.add("127.0.0.0/24", self.now))
                .expect("add a host");
        }
        if root() {
            server.folder.give("grey");
        }
        eprintln!("{name}: {} MiB", fs::metadata(&store).expect("a store").len() >> 20);
        server.env("GREYLIST_DB", store.to_str().expect("UTF-8")).start()
    }

    fn fill(&self, path: &Path) {
        drop(Sqlite::open(path, Duration::from_secs(9)).expect("make a store"));
        let file = rusqlite::Connection::open(path).expect("open the store");
        let (half, now) = (ENTRIES / 2, self.now);
        let numbers = format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {half} - 1)"
        );
        let net = "printf('%d.%d.%d.0/24', 11 + i / 65536, i / 256 % 256, i % 256)";
        file.execute_batch(&format!(
            "{numbers} INSERT INTO hosts SELECT {net}, {now}, {now} FROM n;
             {numbers} INSERT INTO waiting
                 SELECT {net}, printf('user%d@domain%d.example', i, i % 997), 'somebody@mx.test', {now}, 1 FROM n;
             PRAGMA wal_checkpoint(TRUNCATE);"
        ))
        .expect("fill the store");
        // What the kernel still has to write would be paid by the first sessions.
        fs::File::open(path).and_then(|file| file.sync_all()).expect("write the store to disk");
    }
}
