//! Processes as /proc shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its name, cut by the kernel at 15 bytes.
    pub name: String,
    /// The kernel's letter for its state; `Z` is a zombie.
    pub state: char,
}

/// Every process of the machine, zombies too.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| of(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The process `pid`, if it is there.
pub fn of(pid: i32) -> Option<Process> {
    // proc(5): "pid (comm) state ppid pgrp ...", and comm itself may hold blanks and brackets.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let mut words = tail.split(' ');
    Some(Process {
        pid,
        name: head.split_once('(')?.1.to_owned(),
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        group: words.next()?.parse().ok()?,
    })
}

impl Process {
    /// Its living children.
    pub fn children(&self) -> Vec<Process> {
        all().into_iter().filter(|p| p.parent == self.pid && p.state != 'Z').collect()
    }

    /// Its open descriptors and what they lead to (`socket:[123]`, `/dev/null`); empty when it is gone.
    pub fn descriptors(&self) -> BTreeMap<u32, String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return BTreeMap::new();
        };
        let link = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
        };
        entries.filter_map(|entry| link(entry.ok()?)).collect()
    }

    /// The value of `field` in /proc/PID/status, blanks at its ends taken off.
    pub fn status(&self, field: &str) -> Option<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }

    /// Its real, effective, saved and file system uid, each of which must be the same.
    pub fn uid(&self) -> u32 {
        let uids = self.status("Uid").expect("a living process");
        let mut uids = uids.split_whitespace().map(|uid| uid.parse().expect("a uid"));
        let first = uids.next().expect("a uid");
        assert!(uids.all(|uid| uid == first), "{self:?} has several uids");
        first
    }

    /// Its environment (root only where it is not dumpable).
    pub fn environment(&self) -> BTreeMap<String, String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let entries = text.split('\0').filter_map(|entry| entry.split_once('='));
        entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Whether its memory holds `needle` anywhere (root only where it is not dumpable).
    pub fn remembers(&self, needle: &[u8]) -> bool {
        !self.remembered(&[needle]).is_empty()
    }

    /// Which of the needles its memory holds, by their places in the list.
    pub fn remembered(&self, needles: &[&[u8]]) -> BTreeSet<usize> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid)).expect("its maps");
        let memory = File::open(format!("/proc/{}/mem", self.pid)).expect("its memory");
        let mut found = BTreeSet::new();
        for (start, end) in maps.lines().filter_map(range) {
            let mut bytes = vec![0; usize::try_from(end - start).expect("a size")];
            // Kernel pages such as [vvar] are in the list but cannot be read.
            if memory.read_exact_at(&mut bytes, start).is_ok() {
                search(&bytes, needles, &mut found);
            }
        }
        found
    }

    /// The TCP port on which it listens, if it does.
    pub fn listening(&self) -> Option<u16> {
        let sockets = self.descriptors();
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
            .map(|table| fs::read_to_string(table).unwrap_or_default());
        tables.iter().flat_map(|table| table.lines()).find_map(|line| {
            // proc(5): slot, local address, remote address, state (0A: listening), five more, inode.
            let words: Vec<_> = line.split_whitespace().collect();
            let socket = format!("socket:[{}]", words.get(9)?);
            let listens =
                words.get(3) == Some(&"0A") && sockets.values().any(|target| *target == socket);
            let port = words.get(1)?.rsplit_once(':')?.1;
            if listens { u16::from_str_radix(port, 16).ok() } else { None }
        })
    }

    /// Whether it is still there, as itself and not as a zombie.
    pub fn alive(&self) -> bool {
        of(self.pid).is_some_and(|now| now.state != 'Z' && now.group == self.group)
    }

    /// The owner of its files in /proc: root for a process that is not dumpable.
    pub fn owner(&self) -> Option<u32> {
        Some(fs::metadata(format!("/proc/{}/environ", self.pid)).ok()?.uid())
    }
}

/// One pass over megabytes: most bytes begin no needle.
fn search(bytes: &[u8], needles: &[&[u8]], found: &mut BTreeSet<usize>) {
    let mut begins = [false; 256];
    for needle in needles {
        begins[usize::from(needle[0])] = true;
    }
    for (at, byte) in bytes.iter().enumerate() {
        if begins[usize::from(*byte)] {
            let here = &bytes[at..];
            found.extend((0..needles.len()).filter(|&which| here.starts_with(needles[which])));
        }
    }
}

fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}
