//! An SQLite file in WAL mode: readers never wait, writers only for each other.

mod inspect;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior,
    params, params_from_iter,
};

pub use inspect::{Counts, Entry};

use super::{Down, HOST_LIMIT, Store};
use crate::triplet::{Known, Policy, Seconds, Triple, Waiting};

/// A file that is open, and how long its session may still wait for it.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    left: Duration,
    took: Duration,
    /// Whether SETTINGS have been made.
    set_up: bool,
    written: bool,
}

impl Sqlite {
    /// Opens a store, and makes it where there is no file yet; all that the session waits for it,
    /// from here to its end, sums up to `patience` at most.
    pub fn open(path: &Path, patience: Duration) -> Result<Sqlite, Down> {
        Sqlite::open_by(path, patience, OpenFlags::SQLITE_OPEN_CREATE)
    }

    /// As `open`, but an error where there is no file.
    pub fn open_existing(path: &Path, patience: Duration) -> Result<Sqlite, Down> {
        Sqlite::open_by(path, patience, OpenFlags::empty())
    }

    fn open_by(path: &Path, patience: Duration, create: OpenFlags) -> Result<Sqlite, Down> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | create;
        let mut store = Sqlite {
            connection: down("open", Connection::open_with_flags(path, flags))?,
            path: path.to_owned(),
            left: patience,
            took: Duration::ZERO,
            set_up: false,
            written: false,
        };
        let (application, version) = store.timed("open", |connection| {
            connection.busy_timeout(Duration::ZERO)?;
            // A session must not pay for the checkpoint of the sessions before it: see `tidy`.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
            Ok((number("application_id")?, number("user_version")?))
        })?;
        if (application, version) != (APPLICATION, VERSION) {
            store.prepare()?;
        }
        Ok(store)
    }

    /// Makes a new file a store, and refuses other people's files.
    fn prepare(&mut self) -> Result<(), Down> {
        match self.kind()? {
            // Another process was faster.
            (APPLICATION, VERSION, _) => Ok(()),
            (0, 0, 0) => self.create(),
            (APPLICATION, version, _) => Err(Down(format!("made by another version ({version})"))),
            _ => Err(Down("not a greylist store".into())),
        }
    }

    fn kind(&mut self) -> Result<(i64, i64, i64), Down> {
        self.timed("read", |connection| {
            connection.query_row(KIND, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        })
    }

    /// What the sessions that only look a host up can do without.
    fn set_up(&mut self) -> Result<(), Down> {
        if !self.set_up {
            self.timed("set up", |connection| connection.execute_batch(SETTINGS))?;
            self.set_up = true;
        }
        Ok(())
    }

    /// Several processes may be here at the same time.
    fn create(&mut self) -> Result<(), Down> {
        self.timed("make", |connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute_batch(SCHEMA)?;
            change.pragma_update(None, "application_id", APPLICATION)?;
            change.pragma_update(None, "user_version", VERSION)?;
            change.commit()
        })
    }

    fn find<T>(
        &mut self,
        sql: &str,
        key: &[&str],
        entry: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Down> {
        self.timed("look up", |connection| {
            connection.query_row(sql, params_from_iter(key), &entry).optional()
        })
    }

    /// Changes the store in one step that no other process comes between.
    fn write(
        &mut self,
        run: impl Fn(&Transaction<'_>) -> rusqlite::Result<usize>,
    ) -> Result<usize, Down> {
        self.set_up()?;
        self.written = true;
        self.timed("write", |connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let changed = run(&change)?;
            change.commit()?;
            Ok(changed)
        })
    }

    /// Runs one operation within what is left of the session's patience; time below `UNNOTICED` is work and no wait.
    fn timed<T>(
        &mut self,
        what: &str,
        mut run: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Down> {
        if self.left.is_zero() {
            return Err(Down(format!("unable to {what}: it has been too slow")));
        }
        let (start, left) = (Instant::now(), self.left);
        let done = loop {
            match run(&mut self.connection) {
                // SQLite's own busy handler sleeps for longer and longer, and so misses its turn.
                Err(error) if is_busy(&error) && start.elapsed() < left => sleep(PAUSE),
                done => break done,
            }
        };
        let took = start.elapsed();
        self.took = self.took.saturating_add(took);
        self.left = left.saturating_sub(took.saturating_sub(UNNOTICED));
        down(what, done)
    }

    fn checkpoint(&mut self, mode: &str) -> Result<(), Down> {
        self.timed("checkpoint", |connection| {
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
        })
    }
}

impl Store for Sqlite {
    fn known(&mut self, host: &str) -> Result<Option<Known>, Down> {
        self.find("SELECT since, last FROM hosts WHERE host = ?1", &[host], |row| {
            Ok(Known { since: seconds(row.get(0)?), last: seconds(row.get(1)?) })
        })
    }

    fn waiting(&mut self, triple: &Triple) -> Result<Option<Waiting>, Down> {
        let key = [&triple.host, &triple.sender, &triple.recipient].map(String::as_str);
        self.find(
            "SELECT first, tries FROM waiting WHERE host = ?1 AND sender = ?2 AND recipient = ?3",
            &key,
            |row| Ok(Waiting { first: seconds(row.get(0)?), tries: row.get(1)? }),
        )
    }

    fn remember(&mut self, triple: &Triple, now: Seconds, oldest: Seconds) -> Result<bool, Down> {
        let Triple { host, sender, recipient } = triple;
        let entry = params![host, sender, recipient, number(now), number(oldest), HOST_LIMIT];
        self.write(|change| change.execute(REMEMBER, entry)).map(|changed| changed > 0)
    }

    fn admit(&mut self, triple: &Triple, now: Seconds) -> Result<(), Down> {
        let Triple { host, sender, recipient } = triple;
        self.write(|change| {
            change.execute(ADMIT, params![host, number(now)])?;
            change.execute(FORGET, params![host, sender, recipient])
        })
        .map(drop)
    }

    fn note(&mut self, host: &str, now: Seconds) -> Result<(), Down> {
        self.write(|change| change.execute(NOTE, params![host, number(now)])).map(drop)
    }

    fn took(&self) -> Duration {
        self.took
    }

    /// Without readers in between, the log of changes would grow for ever: nobody brings it into the file on closing.
    fn tidy(&mut self, policy: &Policy, now: Seconds) -> Result<(), Down> {
        if !self.written {
            return Ok(());
        }
        self.left = TIDY_PATIENCE;
        self.drop_old(policy, now, AT_ONCE)?;
        if log_size(&self.path) > LOG_LIMIT {
            // The copying and syncing first, while others write on; then the short rest, for which they wait.
            self.checkpoint("PASSIVE")?;
            self.left = TRUNCATE_PATIENCE;
            self.checkpoint("TRUNCATE")?;
        }
        Ok(())
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

fn down<T>(what: &str, result: rusqlite::Result<T>) -> Result<T, Down> {
    result.map_err(|error| Down(format!("unable to {what}: {error}")))
}

/// SQLite's integers are signed; no clock gets that far.
fn number(seconds: Seconds) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// A time before 1970 is none of ours: the oldest there is.
fn seconds(number: i64) -> Seconds {
    Seconds::try_from(number).unwrap_or(0)
}

fn log_size(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).map_or(0, |data| data.len())
}

/// In WAL mode NORMAL loses nothing when a process dies; without temporary files nothing else is opened.
const SETTINGS: &str =
    "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0;";

const KIND: &str = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id, pragma_user_version";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS hosts (
    host TEXT PRIMARY KEY, since INTEGER NOT NULL, last INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS hosts_by_last ON hosts (last);
CREATE TABLE IF NOT EXISTS waiting (
    host TEXT, sender TEXT, recipient TEXT, first INTEGER NOT NULL, tries INTEGER NOT NULL,
    PRIMARY KEY (host, sender, recipient)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_by_first ON waiting (first);
";

const REMEMBER: &str = "
INSERT INTO waiting (host, sender, recipient, first, tries) SELECT ?1, ?2, ?3, ?4, 1
WHERE (?2 = '' AND ?3 = '')
    OR EXISTS (SELECT 1 FROM waiting WHERE host = ?1 AND sender = ?2 AND recipient = ?3)
    OR (SELECT count(*) FROM
        (SELECT 1 FROM waiting WHERE host = ?1 AND first BETWEEN ?5 AND ?4 LIMIT ?6)) < ?6
ON CONFLICT DO UPDATE SET
    tries = iif(first BETWEEN ?5 AND ?4, tries + 1, 1),
    first = iif(first BETWEEN ?5 AND ?4, first, ?4)
";

const ADMIT: &str = "
INSERT INTO hosts (host, since, last) VALUES (?1, ?2, ?2) ON CONFLICT DO UPDATE SET last = ?2
";

const FORGET: &str = "DELETE FROM waiting WHERE host = ?1 AND sender = ?2 AND recipient = ?3";

const NOTE: &str = "UPDATE hosts SET last = ?2 WHERE host = ?1";

/// "grey"
const APPLICATION: i64 = 0x6772_6579;
const VERSION: i64 = 1;

/// How long a locked store is left alone before it is asked again.
const PAUSE: Duration = Duration::from_millis(3);

/// What one operation may take without being called a wait.
const UNNOTICED: Duration = Duration::from_millis(10);

/// After the session nobody waits, but the process should end.
const TIDY_PATIENCE: Duration = Duration::from_secs(5);

/// How many old entries of each kind one session drops: more than it can have made, so that they never pile up.
const AT_ONCE: u32 = 120;

/// Whoever truncates the log makes other writers wait; far less than their patience.
const TRUNCATE_PATIENCE: Duration = Duration::from_millis(30);

/// When the log of changes has this many bytes a session brings it into the file. A process that
/// finds nobody else at the store reads the whole log first: 1 ms for this much.
const LOG_LIMIT: u64 = 1_048_576;
