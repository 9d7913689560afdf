//! Delivery into a Maildir: tmp, fsync, link into new, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::exit::{self, Failure};

/// What went wrong, and the system's word for it.
pub type Trouble = (Failure, io::Error);

/// A message, whose header lines come only after it: in memory, and what is too much for that in
/// a file without a name.
#[derive(Debug)]
pub struct Spool {
    start: Vec<u8>,
    rest: Option<File>,
}

impl Spool {
    /// Reads the message to its end.
    pub fn read(mut message: impl Read) -> Result<Self, Trouble> {
        let mut start = Vec::new();
        let wanted = u64::try_from(IN_MEMORY).unwrap_or(u64::MAX);
        message.by_ref().take(wanted).read_to_end(&mut start).map_err(|e| (exit::READ, e))?;
        let mut rest = None;
        if start.len() == IN_MEMORY {
            let mut file = unnamed().map_err(|error| (exit::CREATE, error))?;
            copy(message, &mut file)?;
            rest = Some(file);
        }
        Ok(Self { start, rest })
    }

    fn write(&mut self, header: &[u8], mut file: File) -> io::Result<()> {
        file.write_all(header)?;
        file.write_all(&self.start)?;
        if let Some(rest) = &mut self.rest {
            rest.rewind()?;
            io::copy(rest, &mut file)?;
        }
        file.sync_all()
    }
}

/// Delivers into the Maildir that is the current folder; on an error nothing is left behind.
pub fn deliver(header: &[u8], mut spool: Spool) -> Result<(), Trouble> {
    let name = unique_name();
    let (tmp, new) = (Path::new("tmp").join(&name), Path::new("new").join(&name));
    let file = create(&tmp).map_err(|error| (exit::CREATE, error))?;
    let delivered = spool
        .write(header, file)
        .map_err(|error| (exit::WRITE, error))
        .and_then(|()| fs::hard_link(&tmp, &new).map_err(|error| (exit::LINK, error)))
        .and_then(|()| sync_folder(&new));
    // What stays in tmp is no delivery; a Maildir's readers clear it away.
    fs::remove_file(&tmp).ok();
    delivered
}

/// What cannot be made safe is taken back: the sender will be told that it failed.
fn sync_folder(new: &Path) -> Result<(), Trouble> {
    File::open("new").and_then(|folder| folder.sync_all()).map_err(|error| {
        // The first error is the one to tell.
        fs::remove_file(new).ok();
        (exit::SYNC_FOLDER, error)
    })
}

fn copy(mut from: impl Read, to: &mut File) -> Result<(), Trouble> {
    let mut block = vec![0; BLOCK];
    loop {
        match from.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let bytes = block.get(..count).unwrap_or_default();
                to.write_all(bytes).map_err(|error| (exit::WRITE, error))?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((exit::READ, error)),
        }
    }
}

fn unnamed() -> io::Result<File> {
    let path = Path::new("tmp").join(format!("{}.rest", unique_name().display()));
    let file = create(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Time, microsecond and process number: no other delivery on this host has the same.
fn unique_name() -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().replace('/', "\\057").replace(':', "\\072");
    let host = if host.is_empty() { "localhost" } else { &host };
    let (seconds, micros, pid) = (now.as_secs(), now.subsec_micros(), std::process::id());
    format!("{seconds}.M{micros}P{pid}.{host}").into()
}

/// More than almost every message has.
const IN_MEMORY: usize = 1 << 20;

const BLOCK: usize = 64 * 1024;
