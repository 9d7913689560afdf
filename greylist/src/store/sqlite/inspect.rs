//! What greylistctl does to a store.

use rusqlite::params;

use super::{Down, Sqlite, down, number, seconds};
use crate::triplet::{Known, Policy, Seconds, Triple, Waiting};

/// One entry of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A host that came back.
    Host(String, Known),
    /// A triple that was asked to.
    Triple(Triple, Waiting),
}

/// How many entries there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Known hosts.
    pub hosts: u64,
    /// Known hosts that came in for the first time within the last day.
    pub new_hosts: u64,
    /// Triples that were asked to come back.
    pub waiting: u64,
    /// Triples that have not come back within the delay and may still.
    pub once: u64,
    /// Triples that can come back no more.
    pub given_up: u64,
}

impl Sqlite {
    /// Shows every entry, hosts first, in the order of their names.
    pub fn list(&mut self, mut show: impl FnMut(Entry)) -> Result<(), Down> {
        self.set_up()?;
        self.timed("list", |connection| {
            let mut hosts =
                connection.prepare("SELECT host, since, last FROM hosts ORDER BY host")?;
            let mut rows = hosts.query([])?;
            while let Some(row) = rows.next()? {
                let known = Known { since: seconds(row.get(1)?), last: seconds(row.get(2)?) };
                show(Entry::Host(row.get(0)?, known));
            }
            let mut waiting = connection.prepare(
                "SELECT host, sender, recipient, first, tries FROM waiting ORDER BY host, first",
            )?;
            let mut rows = waiting.query([])?;
            while let Some(row) = rows.next()? {
                let triple =
                    Triple { host: row.get(0)?, sender: row.get(1)?, recipient: row.get(2)? };
                let waiting = Waiting { first: seconds(row.get(3)?), tries: row.get(4)? };
                show(Entry::Triple(triple, waiting));
            }
            Ok(())
        })
    }

    /// Makes a host known.
    pub fn add(&mut self, host: &str, now: Seconds) -> Result<(), Down> {
        self.write(|change| change.execute(super::ADMIT, params![host, number(now)])).map(drop)
    }

    /// Forgets a host and all its triples; says how many entries that were.
    pub fn remove(&mut self, host: &str) -> Result<usize, Down> {
        self.write(|change| {
            let hosts = change.execute("DELETE FROM hosts WHERE host = ?1", [host])?;
            let triples = change.execute("DELETE FROM waiting WHERE host = ?1", [host])?;
            Ok(hosts.saturating_add(triples))
        })
    }

    /// Drops all entries that count no more, and brings the log of changes into the file; says how many they were.
    pub fn expire(&mut self, policy: &Policy, now: Seconds) -> Result<usize, Down> {
        let mut dropped: usize = 0;
        loop {
            // In steps, so that sessions do not wait behind one long change.
            let step = self.drop_old(policy, now, EXPIRE_STEP)?;
            dropped = dropped.saturating_add(step);
            if step == 0 {
                break;
            }
        }
        self.checkpoint("TRUNCATE")?;
        Ok(dropped)
    }

    /// Counts the entries.
    pub fn counts(&mut self, policy: &Policy, now: Seconds) -> Result<Counts, Down> {
        let times = [
            now.saturating_sub(crate::triplet::DAY),
            now.saturating_sub(policy.delay),
            policy.oldest_waiting(now),
            now,
        ]
        .map(number);
        self.timed("count", |connection| {
            connection.query_row(COUNTS, times, |row| {
                let count = |column| row.get(column).map(seconds);
                Ok(Counts {
                    hosts: count(0)?,
                    new_hosts: count(1)?,
                    waiting: count(2)?,
                    once: count(3)?,
                    given_up: count(4)?,
                })
            })
        })
    }

    /// Drops up to `at_once` old entries of each kind; says how many.
    pub(super) fn drop_old(
        &mut self,
        policy: &Policy,
        now: Seconds,
        at_once: u32,
    ) -> Result<usize, Down> {
        let (triples, hosts) = (policy.oldest_waiting(now), policy.oldest_known(now));
        self.write(|change| {
            let old = change.execute(OLD_TRIPLES, params![number(triples), at_once])?;
            let future = change.execute(FUTURE_TRIPLES, params![number(now), at_once])?;
            let hosts = change.execute(OLD_HOSTS, params![number(hosts), at_once])?;
            Ok(hosts.saturating_add(old).saturating_add(future))
        })
    }

    /// What SQLite itself finds wrong with the file: `ok` if nothing.
    pub fn check(&mut self) -> Result<String, Down> {
        down("check", self.connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
    }
}

const COUNTS: &str = "
SELECT (SELECT count(*) FROM hosts),
    (SELECT count(*) FROM hosts WHERE since >= ?1),
    (SELECT count(*) FROM waiting),
    (SELECT count(*) FROM waiting WHERE tries = 1 AND first < ?2 AND first >= ?3),
    (SELECT count(*) FROM waiting WHERE first < ?3 OR first > ?4)
";

const OLD_TRIPLES: &str = "
DELETE FROM waiting WHERE (host, sender, recipient) IN
    (SELECT host, sender, recipient FROM waiting WHERE first < ?1 ORDER BY first LIMIT ?2)
";

/// Made before the clock was set back.
const FUTURE_TRIPLES: &str = "
DELETE FROM waiting WHERE (host, sender, recipient) IN
    (SELECT host, sender, recipient FROM waiting WHERE first > ?1 ORDER BY first LIMIT ?2)
";

const OLD_HOSTS: &str = "
DELETE FROM hosts WHERE host IN (SELECT host FROM hosts WHERE last < ?1 ORDER BY last LIMIT ?2)
";

/// A change of this many entries takes some milliseconds.
const EXPIRE_STEP: u32 = 1_000;
