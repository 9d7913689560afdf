//! Giving up root for good: uids, and an empty root folder.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Uid, chdir, chroot, fchdir, geteuid, getresgid, getresuid, mkdir};
use nix::unistd::{setgroups, setresgid, setresuid, setuid};

use crate::die::{Error, Result};

/// Lowest of the uids and gids that processes take where none is configured; each adds its pid (at most 4,194,304).
///
/// Above what sssd and FreeIPA hand out (to 2,000,200,000) and what systemd gives containers (to 1,879,048,191), below its foreign range (from 2,147,352,576).
pub const OWN_BASE: u32 = 2_100_000_000;

/// A user and a group, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Who a process becomes when it locks itself in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Not root: there is nothing to give up.
    Unchanged,
    /// What X_UID and X_GID say.
    Given(Ids),
    /// Root, and X_UID is unset: an own uid for each process; holds the variable's name.
    Own(String),
}

impl Identity {
    /// Reads `PREFIX_UID` and `PREFIX_GID`; junk, one without the other, root itself, or root where no own uid can be had is an error (100) that names the variable.
    pub fn from_env(prefix: &str, env: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let names = [format!("{prefix}_UID"), format!("{prefix}_GID")];
        let [uid, gid] = [number(&names[0], &env)?, number(&names[1], &env)?];
        let root = is_root();
        match (uid, gid) {
            (Some(_), Some(_)) | (None, None) if !root => Ok(Self::Unchanged),
            (Some(uid), Some(gid)) => Ok(Self::Given(Ids { uid, gid })),
            (None, None) if own_range_is_mapped() => Ok(Self::Own(names[0].clone())),
            (None, None) => Err(no_own_uid(&names[0])),
            (Some(_), None) => Err(unset(&names[1])),
            (None, Some(_)) => Err(unset(&names[0])),
        }
    }

    /// Becomes it, for good; to be called in the process that is to have it.
    pub fn assume(&self) -> Result<()> {
        match self {
            Self::Unchanged => Ok(()),
            Self::Given(ids) => drop_to(*ids).map_err(|cause| failed(*ids, &cause)),
            Self::Own(variable) => {
                drop_to(Ids::own()).map_err(|cause| match cause.raw_os_error() {
                    Some(libc::EINVAL) => no_own_uid(variable),
                    _ => failed(Ids::own(), &cause),
                })
            }
        }
    }
}

impl Ids {
    /// The ids of this process alone: OWN_BASE and its pid.
    pub fn own() -> Self {
        let id = OWN_BASE.saturating_add(std::process::id());
        Self { uid: id, gid: id }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Drops supplementary groups, group and user, and makes sure that root cannot come back.
pub fn drop_to(ids: Ids) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let (users, groups) = (getresuid()?, getresgid()?);
    let settled = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3];
    if settled && (uid.is_root() || setuid(Uid::from_raw(0)) == Err(Errno::EPERM)) {
        Ok(())
    } else {
        Err(io::Error::other("root could be regained"))
    }
}

/// Lets nobody else read the files that this process makes from now on.
pub fn keep_files_private() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Makes an empty folder of root's the root of this process, which must be root: /run/chainmail-empty, else /var/empty.
pub fn empty_root() -> io::Result<()> {
    let made = make_and_open(EMPTY).and_then(|folder| enter(&folder));
    made.or_else(|_| enter(&open_folder(FALLBACK)?))
}

/// Makes an open folder the working folder, and where this process is root also its root folder.
pub fn enter_folder(folder: &OwnedFd) -> io::Result<()> {
    fchdir(folder)?;
    if is_root() {
        chroot(".")?;
    }
    Ok(())
}

fn make_and_open(path: &str) -> io::Result<OwnedFd> {
    match open_folder(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            match mkdir(path, Mode::S_IRUSR | Mode::S_IXUSR) {
                // Another session was faster.
                Ok(()) | Err(Errno::EEXIST) => open_folder(path),
                Err(other) => Err(other.into()),
            }
        }
        opened => opened,
    }
}

fn open_folder(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    Ok(open(path, flags, Mode::empty())?)
}

fn enter(folder: &OwnedFd) -> io::Result<()> {
    let status = fstat(folder)?;
    let writable =
        Mode::from_bits_truncate(status.st_mode).intersects(Mode::S_IWGRP | Mode::S_IWOTH);
    if status.st_uid != 0 || writable {
        return Err(Errno::EPERM.into());
    }
    fchdir(folder)?;
    if std::fs::read_dir(".")?.next().is_some() {
        chdir("/")?;
        return Err(Errno::ENOTEMPTY.into());
    }
    chroot(".")?;
    Ok(chdir("/")?)
}

fn number(name: &str, env: impl Fn(&str) -> Option<OsString>) -> Result<Option<u32>> {
    let Some(value) = env(name) else { return Ok(None) };
    // u32::MAX is -1, which setresuid(2) takes for "unchanged"; parse() would take a plus sign.
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(0) => Err(Error::permanent(format!("{name} must not be 0"))),
        Some(id) if id < u32::MAX => Ok(Some(id)),
        _ => Err(Error::permanent(format!("{name} is not a number"))),
    }
}

/// Whether this user namespace knows the whole own range; where /proc is missing, setresuid(2) will tell.
fn own_range_is_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps_own_range(&map))
}

/// Whether one line `inside outside length` of a map covers the range.
fn maps_own_range(map: &str) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(inside)), Some(_), Some(Ok(length))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let last = u64::from(OWN_BASE).saturating_add(PID_MAX);
        inside <= u64::from(OWN_BASE) && inside.saturating_add(length) > last
    })
}

fn no_own_uid(variable: &str) -> Error {
    Error::permanent(format!(
        "this user namespace has no uid for a process of its own: set {variable}"
    ))
}

fn unset(variable: &str) -> Error {
    Error::permanent(format!("{variable} is not set"))
}

/// EINVAL: the user namespace does not know the number, nor will it at the next try.
fn failed(ids: Ids, cause: &io::Error) -> Error {
    let error = Error::unable(format!("become uid {} gid {}", ids.uid, ids.gid), cause);
    if cause.raw_os_error() == Some(libc::EINVAL) { error.permanently() } else { error }
}

const EMPTY: &str = "/run/chainmail-empty";
const FALLBACK: &str = "/var/empty";

/// Highest pid that Linux gives (PID_MAX_LIMIT on 64-bit machines).
const PID_MAX: u64 = 4_194_304;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_own_range_must_be_mapped_whole() {
        let top = u64::from(OWN_BASE) + PID_MAX;
        assert!(maps_own_range("         0          0 4294967295\n"));
        assert!(maps_own_range("0 100000 65536\n2000000000 200000 147483648\n"));
        assert!(maps_own_range(&format!("0 0 {}", top + 1)));
        assert!(!maps_own_range(&format!("0 0 {top}")));
        assert!(!maps_own_range(&format!("{} 0 5000000", OWN_BASE + 1)));
        assert!(!maps_own_range("0 1000 1\n"));
        assert!(!maps_own_range(""));
    }

    #[test]
    fn the_own_range_is_clear_of_sssd_and_systemd() {
        let own = u64::from(OWN_BASE)..=u64::from(OWN_BASE) + PID_MAX;
        let free = 2_000_200_001..=2_147_352_575;
        assert!(free.contains(own.start()) && free.contains(own.end()), "{own:?}");
    }

    /// Only the refusals: they come before anything is changed.
    #[test]
    fn a_folder_that_others_can_change_is_no_root() {
        let folder = std::env::temp_dir().join(format!("plumb-root-{}", std::process::id()));
        let text = folder.to_str().unwrap();
        std::fs::create_dir(&folder).unwrap();
        for mode in [0o770, 0o707] {
            std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            let refused = enter(&open_folder(text).unwrap()).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
        let link = folder.join("link");
        symlink(&folder, &link).unwrap();
        assert!(open_folder(link.to_str().unwrap()).is_err(), "O_NOFOLLOW");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
