//! One lookup: a table pointer, its slots, the record.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::{HEADER, PAIR, first_slot, hash, table_of};

/// An open constant database.
#[derive(Debug)]
pub struct Cdb {
    file: File,
    len: u64,
}

impl Cdb {
    /// Opens the database at `path`; a file too short for a header is `InvalidData`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(File::open(path)?)
    }

    /// The database in an open file.
    pub fn of(file: File) -> Result<Self> {
        let len = file.metadata()?.len();
        if len < u64::from(HEADER) {
            return Err(damaged("shorter than its header"));
        }
        Ok(Self { file, len })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The value of the first record with this `key`; one longer than `cap` bytes, like every
    /// other sign of damage, is an error.
    pub fn get(&self, key: &[u8], cap: usize) -> Result<Option<Vec<u8>>> {
        let wanted = hash(key);
        let (table, slots) = self.pair(u64::from(table_of(wanted)), 0)?;
        self.check_table(table, slots)?;
        let start = first_slot(wanted, slots);
        for slot in (start..slots).chain(0..start) {
            let (hash, record) = self.pair(u64::from(slot), u64::from(table))?;
            if record == 0 {
                return Ok(None);
            }
            if hash == wanted
                && let Some(value) = self.record(record, key, cap)?
            {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn check_table(&self, table: u32, slots: u32) -> Result<()> {
        let end = u64::from(slots).saturating_mul(8).saturating_add(u64::from(table));
        if slots > 0 && (table < HEADER || end > self.len) {
            return Err(damaged("a table lies outside"));
        }
        Ok(())
    }

    fn record(&self, at: u32, key: &[u8], cap: usize) -> Result<Option<Vec<u8>>> {
        let (key_len, value_len) = self.pair(0, u64::from(at))?;
        if usize::try_from(key_len).ok() != Some(key.len()) {
            return Ok(None);
        }
        let key_at = u64::from(at).saturating_add(8);
        if self.bytes(key_at, key.len())? != key {
            return Ok(None);
        }
        match usize::try_from(value_len) {
            Ok(len) if len <= cap => {
                self.bytes(key_at.saturating_add(u64::from(key_len)), len).map(Some)
            }
            _ => Err(damaged("a value is longer than its reader allows")),
        }
    }

    fn pair(&self, index: u64, base: u64) -> Result<(u32, u32)> {
        let mut raw = [0; PAIR];
        self.file.read_exact_at(&mut raw, index.saturating_mul(8).saturating_add(base))?;
        let [a, b, c, d, e, f, g, h] = raw;
        Ok((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }

    fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

fn damaged(how: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("damaged cdb: {how}"))
}
