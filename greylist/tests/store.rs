//! Fifty processes on one store of a million entries, some of which are killed at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::arithmetic_side_effects
)]

use std::collections::{HashMap, HashSet};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use greylist::store::Store;
use greylist::store::sqlite::Sqlite;
use greylist::triplet::{Policy, Seconds, Triple};

const NOW: Seconds = 1_800_000_000;
const PROCESSES: usize = 50;
const ENTRIES: usize = 1_000_000;
const ACKNOWLEDGED: usize = 5_000;

/// One in so many acknowledgements costs a process its life.
const KILL_EVERY: usize = 60;

/// What a session waits for the store at most, in all.
const PATIENCE: Duration = Duration::from_millis(250);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("greylist-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn triple(worker: usize, count: usize) -> Triple {
    Triple {
        host: format!("10.{worker}.{}.0/24", count % 251),
        sender: format!("sender{count}@client.test"),
        recipient: "somebody@mx.test".into(),
    }
}

/// A store with half a million hosts and half a million triples.
fn fill(path: &Path) {
    drop(Sqlite::open(path, PATIENCE).unwrap());
    let file = rusqlite::Connection::open(path).unwrap();
    let half = ENTRIES / 2;
    let numbers = format!(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1)",
        half
    );
    let net = "printf('%d.%d.%d.0/24', 11 + i / 65536, i / 256 % 256, i % 256)";
    file.execute_batch(&format!(
        "{numbers} INSERT INTO hosts SELECT {net}, {NOW}, {NOW} FROM n;
         {numbers} INSERT INTO waiting SELECT {net}, printf('user%d@domain%d.example', i, i % 997), 'somebody@mx.test', {NOW}, 1 FROM n;
         PRAGMA wal_checkpoint(TRUNCATE);"
    ))
    .unwrap();
}

/// The test whose processes, started with STORE in their environment, are these workers.
const KILLS: &str = "nothing_acknowledged_is_lost_when_processes_are_killed";

/// What one process does, once per session: open, look up, write, tell; its answers go to standard output.
fn worker(path: &Path) -> ! {
    let number: usize = env::var("WORKER").unwrap().parse().unwrap();
    let mut count: usize = env::var("FIRST").unwrap().parse().unwrap();
    let mut out = std::io::stdout();
    loop {
        let triple = triple(number, count);
        let session = || {
            let mut store = Sqlite::open(path, PATIENCE)?;
            store.known(&triple.host)?;
            store.waiting(&triple)?;
            // Every fourth comes back.
            match count % 4 {
                0 => store.admit(&triple, NOW)?,
                _ => assert!(store.remember(&triple, NOW, NOW)?),
            }
            Ok::<_, greylist::store::Down>(store)
        };
        match session() {
            Ok(mut store) => {
                writeln!(out, "done {number} {count}").unwrap();
                store.tidy(&Policy::default(), NOW).unwrap();
            }
            Err(down) => writeln!(out, "down {number} {count} {down}").unwrap(),
        }
        count += 1;
    }
}

fn start(path: &Path, number: usize, first: usize, tell: Sender<String>) -> Child {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", KILLS, "--nocapture", "--test-threads=1"])
        .env("STORE", path)
        .env("WORKER", number.to_string())
        .env("FIRST", first.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    child
}

// "50 processes at once on one SQLite file with a million entries, with random kill -9: nothing acknowledged is lost, no session
// waits longer than the budget, integrity_check ok."
#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    if let Some(path) = env::var_os("STORE") {
        worker(Path::new(&path));
    }
    let folder = Folder::new("killed");
    let path = folder.0.join("store");
    fill(&path);
    let (tell, told) = channel();
    let mut workers: Vec<Child> =
        (0..PROCESSES).map(|number| start(&path, number, 0, tell.clone())).collect();
    let mut acknowledged: HashSet<(usize, usize)> = HashSet::new();
    let mut down: HashMap<String, usize> = HashMap::new();
    let (mut last, mut killed) = (vec![0; PROCESSES], 0);
    // A walk over the processes that looks random; when each dies is up to the machine.
    let mut dice: usize = 12_345;
    while acknowledged.len() < ACKNOWLEDGED {
        let line = told.recv_timeout(Duration::from_secs(60)).unwrap();
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let ["done" | "down", number, count, ..] = words.as_slice() else { continue };
        let (number, count): (usize, usize) = (number.parse().unwrap(), count.parse().unwrap());
        last[number] = count.max(last[number]);
        if words[0] == "down" {
            *down.entry(words[3].to_owned()).or_default() += 1;
            continue;
        }
        acknowledged.insert((number, count));
        if acknowledged.len().is_multiple_of(KILL_EVERY) {
            dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let victim = dice / 65_536 % PROCESSES;
            workers[victim].kill().unwrap();
            workers[victim].wait().unwrap();
            // Far behind whatever it has done without being heard.
            last[victim] += 1_000_000;
            workers[victim] = start(&path, victim, last[victim], tell.clone());
            killed += 1;
        }
    }
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    eprintln!("acknowledged={} killed={killed} down={down:?}", acknowledged.len());
    let mut store = Sqlite::open(&path, Duration::from_secs(60)).unwrap();
    for (number, count) in acknowledged {
        assert!(remembers(&mut store, number, count), "lost: {:?}", triple(number, count));
    }
    assert_eq!(store.check().unwrap(), "ok");
    assert!(killed >= 50);
    assert!(store.counts(&Policy::default(), NOW).unwrap().hosts >= (ENTRIES / 2) as u64);
    down.keys().for_each(|reason| assert_patience(reason));
}

/// What a worker has written.
fn remembers(store: &mut Sqlite, number: usize, count: usize) -> bool {
    let triple = triple(number, count);
    match count % 4 {
        0 => store.known(&triple.host).unwrap().is_some(),
        _ => store.waiting(&triple).unwrap().is_some(),
    }
}

/// A session may only be turned away because it would have had to wait too long; its mail then passes.
fn assert_patience(reason: &str) {
    assert!(reason.contains("locked") || reason.contains("too slow"), "{reason}");
}

#[test]
fn a_store_is_made_by_many_at_the_same_time() {
    let folder = Folder::new("made");
    for round in 0..5 {
        let path = folder.0.join(format!("store{round}"));
        let (tell, told) = channel();
        let mut workers: Vec<Child> =
            (0..20).map(|number| start(&path, number, 1, tell.clone())).collect();
        let mut heard = HashMap::new();
        while heard.len() < workers.len() {
            let line = told.recv_timeout(Duration::from_secs(60)).unwrap();
            match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
                ["done", number, count] => {
                    heard.insert(number.parse().unwrap(), count.parse().unwrap());
                }
                ["down", _, _, reason] => assert_patience(reason),
                _ => {}
            }
        }
        for worker in &mut workers {
            worker.kill().unwrap();
            worker.wait().unwrap();
        }
        let mut store = Sqlite::open_existing(&path, PATIENCE).unwrap();
        for (number, count) in heard {
            assert!(remembers(&mut store, number, count));
        }
        assert_eq!(store.check().unwrap(), "ok");
    }
}
