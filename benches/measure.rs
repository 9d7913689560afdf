//! Sessions one after the other through several chains in turn: their times and all their processor time.

#![allow(dead_code, reason = "no bench needs all of it")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use chain_tests::Server;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// Connections in a turn.
pub const CONNECTIONS: usize = 50;

/// One thing that is measured.
pub struct Contestant {
    /// What it is called.
    pub name: String,
    /// The chain, where it is one.
    pub server: Option<Server>,
    verdict: &'static str,
    /// How long each session took.
    pub times: Vec<Duration>,
    /// The processor time of all of them.
    pub cpu: Duration,
}

impl Contestant {
    /// One without a chain of its own.
    pub fn named(name: &str) -> Contestant {
        Contestant {
            name: name.into(),
            server: None,
            verdict: "",
            times: Vec::new(),
            cpu: Duration::ZERO,
        }
    }

    /// A chain whose answer to RCPT is `verdict`.
    pub fn chain(name: &str, server: Server, verdict: &'static str) -> Contestant {
        Contestant { server: Some(server), verdict, ..Contestant::named(name) }
    }

    /// One turn: connections one after the other, then the processor time of all their processes.
    pub fn turn(&mut self, turn: usize) {
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
pub fn cpu(server: &Server) -> Duration {
    while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
    {
    }
    let orphans = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let orphans = orphans.user_time() + orphans.system_time();
    let micros = u64::try_from(orphans.num_microseconds()).expect("a time");
    Duration::from_micros(micros) + cpu_of(server.process().pid)
}

/// The processor time of a process and of those for which it has waited.
pub fn cpu_of(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    // proc(5): utime, stime, cutime, cstime are the fields 14 to 17, in ticks of 10 ms.
    let ticks: u64 =
        fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// A table; ratios are to the first line.
pub fn print(contestants: &[Contestant]) {
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
