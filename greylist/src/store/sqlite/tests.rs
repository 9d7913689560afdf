#![allow(clippy::arithmetic_side_effects)]
use std::fs;

use super::*;
use crate::store::memory::Memory;
use crate::triplet::DAY;

const NOW: Seconds = 1_800_000_000;
/// Enough for a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("greylist-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn store(&self) -> Sqlite {
        Sqlite::open(&self.0.join("db"), PATIENCE).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.0.join("db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn triple(host: u64, sender: u64) -> Triple {
    Triple {
        host: format!("192.0.{host}.0/24"),
        sender: format!("a{sender}@x.example"),
        recipient: "b@y.example".into(),
    }
}

/// A walk over the operations that looks random and is always the same.
#[test]
fn the_file_remembers_what_its_twin_in_memory_does() {
    let folder = Folder::new("twin");
    let (mut file, mut twin) = (folder.store(), Memory::default());
    let mut state: u64 = 1;
    let mut now = NOW;
    for step in 0..400 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = state >> 33;
        let triple = triple(dice % 3, dice / 3 % 4);
        match dice / 12 % 8 {
            0..=3 => {
                file.remember(&triple, now, now - DAY).unwrap();
                twin.remember(&triple, now, now - DAY).unwrap();
            }
            4 => {
                file.admit(&triple, now).unwrap();
                twin.admit(&triple, now).unwrap();
            }
            5 => {
                file.note(&triple.host, now).unwrap();
                twin.note(&triple.host, now).unwrap();
            }
            6 => now += dice / 96 % (2 * DAY),
            _ => now -= dice / 96 % 1_000,
        }
        if dice.is_multiple_of(16) {
            file = folder.store();
        }
        for host in 0..3 {
            let name = &triple_host(host);
            assert_eq!(file.known(name), twin.known(name), "step {step}");
            for sender in 0..4 {
                let triple = self::triple(host, sender);
                assert_eq!(file.waiting(&triple), twin.waiting(&triple), "step {step}");
            }
        }
    }
    assert!(!twin.0.borrow().hosts.is_empty() && !twin.0.borrow().waiting.is_empty());
}

fn triple_host(host: u64) -> String {
    triple(host, 0).host
}

// greylite's defect 20: SQL is pasted together from what the client says.
#[test]
fn defect_20_what_looks_like_sql_is_text() {
    let folder = Folder::new("sql");
    let mut store = folder.store();
    for text in ["o'brien", "x'); DROP TABLE waiting; --", "\"q\"", "?1", "%", "a\\x00b", ""] {
        let triple = Triple { host: text.into(), sender: text.into(), recipient: text.into() };
        store.remember(&triple, NOW, 0).unwrap();
        assert_eq!(store.waiting(&triple), Ok(Some(Waiting { first: NOW, tries: 1 })), "{text}");
        store.admit(&triple, NOW).unwrap();
        assert!(store.known(text).unwrap().is_some());
    }
    assert_eq!(store.counts(&Policy::default(), NOW).unwrap().hosts, 7);
}

#[test]
fn what_cannot_be_a_store_is_left_alone() {
    let folder = Folder::new("foreign");
    fs::write(folder.file(), "this is a text file, and not a small one at all\n".repeat(100))
        .unwrap();
    let before = fs::read(folder.file()).unwrap();
    let error = Sqlite::open(&folder.file(), PATIENCE).unwrap_err();
    assert!(error.0.contains("not a database"), "{error}");
    assert_eq!(fs::read(folder.file()).unwrap(), before);

    fs::remove_file(folder.file()).unwrap();
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("CREATE TABLE mine (x)").unwrap();
    drop(other);
    let error = Sqlite::open(&folder.file(), PATIENCE).unwrap_err();
    assert_eq!(error.0, "not a greylist store");

    fs::remove_file(folder.file()).unwrap();
    folder.store().connection.pragma_update(None, "user_version", 2).unwrap();
    let error = Sqlite::open(&folder.file(), PATIENCE).unwrap_err();
    assert_eq!(error.0, "made by another version (2)");

    let nowhere = Sqlite::open(&folder.0.join("missing/db"), PATIENCE).unwrap_err();
    assert!(nowhere.0.contains("unable to open"), "{nowhere}");
}

/// Every page after the first is overwritten: whatever SQLite notices is an error, and nothing panics.
#[test]
fn a_damaged_file_is_an_error() {
    let folder = Folder::new("damaged");
    let mut store = folder.store();
    for n in 0..200 {
        store.remember(&triple(n % 250, n), NOW, 0).unwrap();
    }
    store.checkpoint("TRUNCATE").unwrap();
    drop(store);
    let whole = fs::read(folder.file()).unwrap();
    let mut broken = whole.clone();
    broken[4_096..].fill(0x55);
    fs::write(folder.file(), &broken).unwrap();
    let mut store = folder.store();
    assert!(store.known("192.0.1.0/24").unwrap_err().0.contains("malformed"));
    assert!(store.remember(&triple(1, 1), NOW, 0).is_err());
    drop(store);
    for length in [0, 1, 100, 4_095, 4_096, 5_000] {
        fs::write(folder.file(), &whole[..length]).unwrap();
        for suffix in ["-wal", "-shm"] {
            let mut log = folder.file().into_os_string();
            log.push(suffix);
            fs::remove_file(log).ok();
        }
        let asked = Sqlite::open(&folder.file(), PATIENCE)
            .and_then(|mut store| store.waiting(&triple(1, 1)));
        // A file without a single page is a new store.
        assert_eq!(asked.is_ok(), length <= 1, "{length}: {asked:?}");
    }
}

// DESIGN 5: one deadline of 300 ms.
#[test]
fn a_session_waits_no_longer_than_its_patience() {
    let folder = Folder::new("busy");
    let mut store = folder.store();
    let mut other = folder.store();
    let lock = other.connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    // Readers do not wait for a writer.
    assert_eq!(store.waiting(&triple(1, 1)), Ok(None));
    store.set_up().unwrap();
    store.left = Duration::from_millis(100);
    let error = store.remember(&triple(1, 1), NOW, 0).unwrap_err();
    assert!(error.0.contains("locked"), "{error}");
    assert!(store.left < UNNOTICED, "{:?}", store.left);
    lock.commit().unwrap();
    store.left = Duration::ZERO;
    assert_eq!(store.known("x").unwrap_err().0, "unable to look up: it has been too slow");
}

#[test]
fn old_entries_go_and_young_ones_stay() {
    let folder = Folder::new("expire");
    let mut store = folder.store();
    let policy = Policy::default();
    for n in 0..150 {
        store.remember(&triple(n, 1), NOW - DAY - 1, 0).unwrap();
        store.add(&triple_host(n), NOW - 36 * DAY - 1).unwrap();
    }
    store.remember(&triple(1, 2), NOW - DAY, 0).unwrap();
    // The clock was a year ahead.
    for n in 0..150 {
        store.remember(&triple(n, 3), NOW + 365 * DAY, 0).unwrap();
    }
    store.add("example.org", NOW - 36 * DAY).unwrap();
    store.tidy(&policy, NOW).unwrap();
    let counts = store.counts(&policy, NOW).unwrap();
    assert_eq!((counts.hosts, counts.waiting, counts.given_up), (31, 61, 60));
    assert_eq!(store.expire(&policy, NOW).unwrap(), 90);
    let mut left = Vec::new();
    store.list(|entry| left.push(entry)).unwrap();
    let known = Known { since: NOW - 36 * DAY, last: NOW - 36 * DAY };
    let waiting = Waiting { first: NOW - DAY, tries: 1 };
    assert_eq!(
        left,
        [Entry::Host("example.org".into(), known), Entry::Triple(triple(1, 2), waiting)]
    );
    assert_eq!(store.remove("example.org"), Ok(1));
    assert_eq!(store.remove("192.0.1.0/24"), Ok(1));
    assert_eq!(store.counts(&policy, NOW).unwrap(), Counts::default());
    assert_eq!(store.check().unwrap(), "ok");
}

/// The log of changes does not grow for ever, though no session closes it.
#[test]
fn the_log_of_changes_is_brought_into_the_file() {
    let folder = Folder::new("log");
    let mut largest = 0;
    for session in 0..60 {
        let mut store = folder.store();
        for n in 0..40 {
            store.remember(&triple(n, session), NOW, 0).unwrap();
        }
        largest = largest.max(log_size(&folder.file()));
        store.tidy(&Policy::default(), NOW).unwrap();
    }
    // What one session writes may come on top.
    assert!((LOG_LIMIT..2 * LOG_LIMIT + 1_048_576).contains(&largest), "{largest}");
    let mut store = folder.store();
    assert_eq!(store.counts(&Policy::default(), NOW).unwrap().waiting, 2_400);
}

/// As many triples as one host may have, in the file as in its twin; expired ones take no room.
#[test]
fn a_host_that_has_too_many_waiting_gets_no_more_but_its_crowd() {
    let folder = Folder::new("limit");
    let (mut file, mut twin) = (folder.store(), Memory::default());
    let mut remember = |triple: &Triple, now| {
        let kept = file.remember(triple, now, now - DAY).unwrap();
        assert_eq!(twin.remember(triple, now, now - DAY), Ok(kept));
        assert_eq!(file.waiting(triple), twin.waiting(triple));
        kept
    };
    let limit = u64::from(HOST_LIMIT);
    for n in 0..limit {
        assert!(remember(&triple(1, n), NOW));
    }
    assert!(!remember(&triple(1, limit), NOW));
    assert!(remember(&triple(1, limit - 1), NOW + 1), "one that waits already is counted on");
    assert!(remember(&triple(2, limit), NOW), "another host");
    let crowd = Triple::crowd(&triple_host(1));
    assert!(remember(&crowd, NOW) && remember(&crowd, NOW));
    assert!(remember(&triple(1, limit), NOW + DAY + 1));
}

// greylite's defect 10: of several retries that come at once, all but one fail, since the host is there already.
#[test]
fn defect_10_several_passes_of_one_host_on_one_file() {
    let folder = Folder::new("passes");
    let mut sessions: Vec<Sqlite> = (0..6).map(|_| folder.store()).collect();
    sessions[0].remember(&triple(1, 1), NOW, 0).unwrap();
    for session in &mut sessions {
        assert_eq!(session.known(&triple_host(1)), Ok(None));
        assert!(session.waiting(&triple(1, 1)).unwrap().is_some());
    }
    for session in &mut sessions {
        assert_eq!(session.admit(&triple(1, 1), NOW), Ok(()));
    }
    let counts = sessions[0].counts(&Policy::default(), NOW).unwrap();
    assert_eq!((counts.hosts, counts.waiting), (1, 0));
}
