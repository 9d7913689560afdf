//! What a session costs with recordio-tls, with recordio, and with neither: processor time, memory, and processor time for each megabyte.
//!
//! As root, against static release programs (see README.md, Build) and Debian's recordio:
//! `CHAINMAIL_BIN=$PWD/target/x86_64-unknown-linux-gnu/release cargo bench -p benches --bench recordio`.
//! The contestants take turns in one run; only ratios tell something.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a measurement fails by panicking"
)]

mod measure;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use chain_tests::{Client, Process, Server};
use measure::{Contestant, cpu, print};
use nix::sys::prctl::set_child_subreaper;

/// Turns of each contestant.
const TURNS: usize = 12;

/// Sessions that are held.
const HELD: usize = 40;

/// What passes in a turn of the third measurement, in millions of bytes.
const MEGABYTES: usize = 100;

/// What is put before the chain, and how it is called.
const BEFORE: [(&str, &str); 4] = [
    ("without", ""),
    ("recordio", "recordio"),
    ("recordio-tls", "recordio-tls"),
    ("recordio-tls -B", "recordio-tls -B"),
];

fn main() {
    set_child_subreaper(true).expect("adopt orphans");
    let chain = |before: &str| Server::new(&format!("{before} setuidgid nobody smtpd")).start();
    let mut contestants =
        BEFORE.map(|(name, before)| Contestant::chain(name, chain(before), "250 "));
    for turn in 0..TURNS {
        for step in 0..contestants.len() {
            // Another one begins in each turn.
            let index = (turn + step) % contestants.len();
            contestants[index].turn(turn);
        }
    }
    println!("a session of 5 commands:\n");
    print(&contestants);
    println!("memory of an idle session (PSS, {HELD} held):\n");
    contestants.iter().filter_map(|each| Some((&each.name, each.server.as_ref()?))).for_each(held);
    println!("\na message of {MEGABYTES} MB in lines of 78 bytes:\n");
    bulk();
}

fn held((name, server): (&String, &Server)) {
    let mut clients: Vec<Client> = (0..HELD).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.reply()));
    let sessions = server.sessions();
    let (pss, count) = (sessions.iter().map(pss).sum::<u64>(), sessions.len());
    println!("{name:<20}{:>6} kB in {} processes", pss / HELD as u64, count / HELD);
    for client in &mut clients {
        client.expect("QUIT", "221");
    }
    server.idle();
}

fn pss(process: &Process) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).expect("smaps");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("Pss");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Greets, opens a message, takes what comes, and has a last word.
const SINK: &str =
    "#!/bin/sh\nprintf '220 mx\\r\\n354 go\\r\\n'\ncat >/dev/null\nprintf '250 taken\\r\\n'\n";

/// Its own log goes to /dev/null: no file's costs are measured.
const QUIET: &str = "#!/bin/sh\nexec \"$@\" 2>/dev/null\n";

fn bulk() {
    let line = format!("{:x<76}\r\n", "The quick brown fox jumps over the lazy dog. ");
    let block = line.as_bytes().repeat(800);
    let servers = BEFORE.map(|(name, before)| {
        let server = Server::new(&format!("./quiet {before} ./sink"));
        server.folder.script("quiet", QUIET);
        server.folder.script("sink", SINK);
        (name, server.start())
    });
    let mut spent = [0.0; BEFORE.len()];
    for turn in 0..3 {
        for step in 0..servers.len() {
            let index = (turn + step) % servers.len();
            let (_, server) = &servers[index];
            let before = cpu(server);
            let mut client = TcpStream::connect(server.address()).expect("connect");
            client.write_all(b"DATA\r\n").expect("send");
            for _ in 0..MEGABYTES * 1_000_000 / block.len() {
                client.write_all(&block).expect("send");
            }
            client.shutdown(std::net::Shutdown::Write).expect("end");
            let mut heard = String::new();
            client.read_to_string(&mut heard).expect("read");
            assert!(heard.ends_with("250 taken\r\n"), "{heard}");
            server.idle();
            spent[index] += (cpu(server) - before).as_secs_f64() * 1e3 / MEGABYTES as f64;
        }
    }
    println!("| | CPU ms/MB | more than without | ratio to recordio |\n|---|---|---|---|");
    let [without, recordio, ..] = spent;
    for ((name, _), spent) in servers.iter().zip(spent) {
        let ratio = (spent - without) / (recordio - without);
        println!("| {name} | {:.2} | {:.2} | {ratio:.2} |", spent / 3.0, (spent - without) / 3.0);
    }
}
