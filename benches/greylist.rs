//! What a connection costs with greylist and a million entries, beside the same chain without it and beside postgrey's policy lookup.
//!
//! As root, against static release programs (see README.md, Build) and the peers that tests/peers.sh unpacks:
//! `CHAINMAIL_BIN=target/x86_64-unknown-linux-gnu/release cargo bench -p benches --bench greylist`.
//! The contestants take turns in one run; only ratios tell something.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a measurement fails by panicking"
)]

#[path = "greylist/postgrey.rs"]
mod postgrey;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chain_tests::Server;
use chain_tests::programs::root;
use greylist::store::sqlite::Sqlite;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use postgrey::Postgrey;

/// Turns of each contestant, and connections in a turn.
const TURNS: usize = 12;
const CONNECTIONS: usize = 50;

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

/// One thing that is measured.
struct Contestant {
    name: String,
    server: Option<Server>,
    verdict: &'static str,
    times: Vec<Duration>,
    cpu: Duration,
}

impl Contestant {
    fn named(name: &str) -> Contestant {
        Contestant {
            name: name.into(),
            server: None,
            verdict: "",
            times: Vec::new(),
            cpu: Duration::ZERO,
        }
    }

    fn chain(name: &str, server: Server, verdict: &'static str) -> Contestant {
        Contestant { server: Some(server), verdict, ..Contestant::named(name) }
    }

    /// One turn: connections one after the other, then the processor time of all their processes.
    fn turn(&mut self, turn: usize) {
        let Some(server) = &self.server else { return };
        let before = cpu(server);
        for number in 0..CONNECTIONS {
            let start = Instant::now();
            session(server.address(), turn * CONNECTIONS + number, self.verdict);
            self.times.push(start.elapsed());
        }
        server.idle();
        self.cpu += cpu(server).saturating_sub(before);
    }
}

/// From the connection to the end of QUIT: one recipient, no message.
fn session(address: SocketAddr, number: usize, verdict: &str) {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    let (mut input, mut output) = (BufReader::new(&stream), &stream);
    let mut ask = |command: &str, expected: &str| {
        if !command.is_empty() {
            output.write_all(format!("{command}\r\n").as_bytes()).expect("write");
        }
        let mut line = String::new();
        while line.as_bytes().get(3) != Some(&b' ') {
            line.clear();
            assert!(input.read_line(&mut line).expect("read") > 0, "the end instead of {expected}");
        }
        assert!(line.starts_with(expected), "{command}: {line}");
    };
    ask("", "220 ");
    ask("EHLO bench.test", "250 ");
    ask(&format!("MAIL FROM:<user{number}@sender{number}.example>"), "250 ");
    ask("RCPT TO:<postmaster@mx.test>", verdict);
    ask("QUIT", "221 ");
    let mut rest = String::new();
    input.read_line(&mut rest).expect("the end");
    assert!(rest.is_empty());
}

/// The processor time of the server and of all processes of its sessions until now.
fn cpu(server: &Server) -> Duration {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
    {
    }
    let orphans = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let orphans = orphans.user_time() + orphans.system_time();
    let micros = u64::try_from(orphans.num_microseconds()).expect("a time");
    Duration::from_micros(micros) + cpu_of(server.process().pid)
}

/// The processor time of a process and of those for which it has waited.
fn cpu_of(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    // proc(5): utime, stime, cutime, cstime are the fields 14 to 17, in ticks of 10 ms.
    let ticks: u64 =
        fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
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

/// A table; ratios are to the first line.
fn print(contestants: &[Contestant]) {
    let mut table = String::from(
        "| | median µs | ratio | p99 µs | CPU µs | ratio |\n|---|---|---|---|---|---|\n",
    );
    let mut first: Option<(f64, f64)> = None;
    for contestant in contestants {
        let mut times = contestant.times.clone();
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
        let cpu = contestant.cpu.as_secs_f64() * 1e6 / times.len() as f64;
        let (median, first_cpu) = *first.get_or_insert((at(50), cpu));
        let ratio =
            |value: f64, to: f64| if to > 0.0 { format!("{:.2}", value / to) } else { "-".into() };
        writeln!(
            table,
            "| {} | {:.0} | {} | {:.0} | {:.0} | {} |",
            contestant.name,
            at(50),
            ratio(at(50), median),
            at(99),
            cpu,
            ratio(cpu, first_cpu)
        )
        .expect("write to a string");
    }
    println!("{table}");
}
