//! Against `cdb` of Debian's tinycdb, and against every kind of damage.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cdb::{Cdb, Maker};

type Records = Vec<(Vec<u8>, Vec<u8>)>;

#[test]
fn files_are_byte_for_byte_those_of_tinycdb() {
    for count in [0, 1, 2, 1000] {
        assert_eq!(made(&records(count)), made_by_tinycdb(&records(count), count), "{count}");
    }
}

#[test]
fn every_record_is_found_and_nothing_else() {
    let path = file("found", &made(&records(1000)));
    let cdb = Cdb::open(&path).unwrap();
    for (key, value) in records(1000) {
        assert_eq!(cdb.get(&key, 100).unwrap().as_ref(), Some(&value));
    }
    for key in [&b""[..], b"key", b"key1000", b"KEY1", b"key1\0"] {
        assert_eq!(cdb.get(key, 100).unwrap(), None);
    }
    assert!(cdb.get(b"key1", 3).is_err(), "the cap is the caller's");
}

#[test]
fn the_first_of_equal_keys_is_found() {
    let twice = vec![(b"k".to_vec(), b"first".to_vec()), (b"k".to_vec(), b"second".to_vec())];
    let path = file("twice", &made(&twice));
    assert_eq!(Cdb::open(&path).unwrap().get(b"k", 9).unwrap(), Some(b"first".to_vec()));
}

#[test]
fn a_file_cut_at_any_byte_is_an_error_or_a_miss_but_never_a_wrong_value() {
    let whole = made(&records(3));
    for cut in 0..whole.len() {
        let path = file("cut", &whole[..cut]);
        let Ok(cdb) = Cdb::open(&path) else { continue };
        for (key, value) in records(3) {
            if let Ok(Some(found)) = cdb.get(&key, 100) {
                assert_eq!(found, value);
            }
        }
    }
}

#[test]
fn a_file_cut_while_it_is_open_is_an_error() {
    let path = file("shrunk", &made(&records(3)));
    let cdb = Cdb::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
    assert!(cdb.get(b"key1", 100).is_err());
}

#[test]
fn random_damage_never_panics_nor_allocates_beyond_the_cap() {
    let whole = made(&records(20));
    let mut seed = 1u64;
    for _ in 0..2000 {
        let mut damaged = whole.clone();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % damaged.len();
            damaged[at] = (seed >> 20) as u8;
        }
        let cdb = Cdb::open(&file("damaged", &damaged)).unwrap();
        for (key, _) in records(20) {
            if let Ok(Some(value)) = cdb.get(&key, 100) {
                assert!(value.len() <= 100);
            }
        }
    }
}

#[test]
fn a_failed_replacement_leaves_the_old_file() {
    let path = file("replaced", b"old");
    let failed = cdb::replace(&path, 0o640, |_| Err(std::io::Error::other("no")));
    assert!(failed.is_err());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(!path.with_extension(format!("tmp.{}", std::process::id())).exists());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    cdb::replace(&path, 0o640, |maker| maker.add(b"k", b"v")).unwrap();
    assert_eq!(Cdb::open(&path).unwrap().get(b"k", 9).unwrap(), Some(b"v".to_vec()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
}

#[test]
fn a_link_in_the_temporary_files_place_is_not_written_through() {
    let (path, victim) = (file("linked", b"old"), file("victim", b"precious"));
    let temporary = file(&format!("linked.tmp.{}", std::process::id()), b"");
    fs::remove_file(&temporary).unwrap();
    std::os::unix::fs::symlink(&victim, &temporary).unwrap();
    cdb::replace(&path, 0o600, |maker| maker.add(b"k", b"v")).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

fn records(count: usize) -> Records {
    (0..count).map(|i| (format!("key{i}").into_bytes(), vec![b'v'; i % 50 + 4])).collect()
}

fn made(records: &Records) -> Vec<u8> {
    let mut maker = Maker::new(Cursor::new(Vec::new())).unwrap();
    for (key, value) in records {
        maker.add(key, value).unwrap();
    }
    maker.finish().unwrap().into_inner()
}

fn made_by_tinycdb(records: &Records, name: usize) -> Vec<u8> {
    let path = file(&format!("tiny{name}"), b"");
    let mut cdb = Command::new("cdb").arg("-c").arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = cdb.stdin.take().unwrap();
    for (key, value) in records {
        write!(input, "+{},{}:", key.len(), value.len()).unwrap();
        input.write_all(&[&key[..], b"->", value, b"\n"].concat()).unwrap();
    }
    input.write_all(b"\n").unwrap();
    drop(input);
    assert!(cdb.wait().unwrap().success());
    fs::read(path).unwrap()
}

fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    path
}
