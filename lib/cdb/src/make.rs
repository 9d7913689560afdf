//! Writing a database: records, then the 256 hash tables, then the header.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Error, ErrorKind, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::{HEADER, PAIR, first_slot, hash, table_of};

/// A database in the making.
#[derive(Debug)]
pub struct Maker<W> {
    out: W,
    at: u32,
    /// Hash and position of each record, by table.
    tables: Vec<Vec<(u32, u32)>>,
}

impl<W: Write + Seek> Maker<W> {
    /// Starts a database at the beginning of `out`, which should be empty.
    pub fn new(mut out: W) -> Result<Self> {
        out.write_all(&[0; 2048])?;
        Ok(Self { out, at: HEADER, tables: vec![Vec::new(); 256] })
    }

    /// Adds one record; of several with one key readers find the first.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let start = self.at;
        self.pair(length(key)?, length(value)?)?;
        self.put(key)?;
        self.put(value)?;
        let hash = hash(key);
        if let Some(table) =
            usize::try_from(table_of(hash)).ok().and_then(|t| self.tables.get_mut(t))
        {
            table.push((hash, start));
        }
        Ok(())
    }

    /// Writes tables and header, flushes, and gives `out` back.
    pub fn finish(mut self) -> Result<W> {
        let mut header = Vec::with_capacity(2048);
        for table in std::mem::take(&mut self.tables) {
            let slots = slots_of(&table)?;
            header.push((self.at, length(&slots)?));
            for (hash, position) in slots {
                self.pair(hash, position)?;
            }
        }
        self.out.seek(SeekFrom::Start(0))?;
        for (position, slots) in header {
            self.out.write_all(&pair(position, slots))?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn pair(&mut self, a: u32, b: u32) -> Result<()> {
        self.put(&pair(a, b))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.at = self.at.checked_add(length(bytes)?).ok_or_else(too_big)?;
        self.out.write_all(bytes)
    }
}

/// Replaces the database at `path` in one step by what `fill` adds; on any error the old file stays as it was.
pub fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut Maker<BufWriter<&mut File>>) -> Result<()>,
) -> Result<()> {
    replace_by(path, mode, |file| {
        let mut maker = Maker::new(BufWriter::new(file))?;
        fill(&mut maker)?;
        maker.finish().map(drop)
    })
}

/// Replaces the file at `path` in one step: `write` fills a new one beside it, which is synced and renamed.
///
/// The new file has the old one's owner and permissions; `mode` where there was none.
pub fn replace_by(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    // Two that write at once must not share it: the later rename wins, whole.
    temporary.push(format!(".tmp.{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written =
        write_synced(&temporary, path, mode, write).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell; a temporary file that stays harms nobody.
        drop(fs::remove_file(&temporary));
    }
    written?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_synced(
    temporary: &Path,
    old: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> Result<()>,
) -> Result<()> {
    // What a writer of the same number left when it was killed goes; what comes back is somebody's trap.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    match fs::metadata(old) {
        Ok(old) => {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
        }
        Err(missing) if missing.kind() == ErrorKind::NotFound => {}
        Err(other) => return Err(other),
    }
    write(&mut file)?;
    file.sync_all()
}

/// Twice as many slots as records, each record in the first free slot from its own on.
fn slots_of(table: &[(u32, u32)]) -> Result<Vec<(u32, u32)>> {
    let count = length(table)?.checked_mul(2).ok_or_else(too_big)?;
    let mut slots = vec![(0, 0); usize::try_from(count).map_err(|_| too_big())?];
    for &(hash, position) in table {
        let first = usize::try_from(first_slot(hash, count)).map_err(|_| too_big())?;
        let (before, after) = slots.split_at_mut_checked(first).ok_or_else(too_big)?;
        if let Some(free) = after.iter_mut().chain(before).find(|slot| slot.1 == 0) {
            *free = (hash, position);
        }
    }
    Ok(slots)
}

fn pair(a: u32, b: u32) -> [u8; PAIR] {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_le_bytes(), b.to_le_bytes());
    [a0, a1, a2, a3, b0, b1, b2, b3]
}

fn length<T>(items: &[T]) -> Result<u32> {
    u32::try_from(items.len()).map_err(|_| too_big())
}

fn too_big() -> Error {
    Error::new(ErrorKind::FileTooLarge, "a cdb holds less than 4 GiB")
}
