//! The folder of a store, and whose it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use plumb::privs::{Identity, Ids, enter_folder, is_root, keep_files_private};
use plumb::{Doing, Error, Result};

/// An open folder with a store in it.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: OsString,
    identity: Identity,
}

impl Place {
    /// Opens the folder of the store `path`; as root, the folder's owner is who may touch the store.
    ///
    /// # Errors
    /// A folder that is not there or cannot be opened (111); one of root's, or one for everybody (100).
    pub fn open(path: &Path) -> Result<Place> {
        let name = path.file_name().map(OsStr::to_owned);
        let name = name.ok_or_else(|| Error::permanent("GREYLIST_DB is no path of a file"))?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let opening = || format!("open {}", folder.display());
        let open = File::open(folder).doing(opening())?;
        let status = open.metadata().doing(opening())?;
        if !status.is_dir() {
            return Err(Error::unable(opening(), &io::ErrorKind::NotADirectory.into()));
        }
        // Whoever can put files there can put a store of his own there.
        if status.mode() & WRITABLE_BY_ALL != 0 {
            let folder = folder.display();
            return Err(Error::permanent(format!("anybody can write to {folder}: chmod o-w")));
        }
        let identity = match (is_root(), status.uid()) {
            (false, _) => Identity::Unchanged,
            (true, 0) => {
                let folder = folder.display();
                return Err(Error::permanent(format!(
                    "{folder} belongs to root: give it to a user of its own, who then reads and writes the store"
                )));
            }
            (true, uid) => Identity::Given(Ids { uid, gid: status.gid() }),
        };
        Ok(Place { folder: open.into(), name, identity })
    }

    /// Becomes the folder's owner, for good, with the folder as root; gives the folder, and the
    /// store's path from now on.
    ///
    /// # Errors
    /// Those of chroot(2) and setresuid(2) (111).
    pub fn enter(self) -> Result<(OwnedFd, OsString)> {
        enter_folder(&self.folder).doing("enter the store's folder")?;
        self.identity.assume()?;
        // Who writes to whom is nobody else's business.
        keep_files_private();
        Ok((self.folder, self.name))
    }
}

/// inode(7): S_IWOTH.
const WRITABLE_BY_ALL: u32 = 0o002;

impl AsRawFd for Place {
    fn as_raw_fd(&self) -> RawFd {
        self.folder.as_raw_fd()
    }
}
