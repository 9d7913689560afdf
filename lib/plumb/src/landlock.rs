//! Landlock by its three system calls: nothing of the file system, no TCP, no signals outward.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use nix::errno::Errno;

/// struct landlock_ruleset_attr, as of ABI 6.
#[repr(C)]
struct Ruleset {
    files: u64,
    net: u64,
    scoped: u64,
}

/// struct landlock_path_beneath_attr, which the kernel declares packed.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    folder: RawFd,
}

/// Denies everything this kernel can deny, but for the files beneath `folders`; no_new_privs must be set.
pub(crate) fn deny_all(folders: &[OwnedFd]) -> io::Result<()> {
    let handled = Ruleset::of_abi(abi()?);
    let ruleset = handled.create()?;
    folders.iter().try_for_each(|folder| handled.allow(&ruleset, folder))?;
    // SAFETY: takes a descriptor and flags only.
    result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) })?;
    Ok(())
}

impl Ruleset {
    /// All that ABI `version` knows (linux/landlock.h).
    fn of_abi(version: i64) -> Self {
        let files = match version {
            ..=1 => 13,
            2 => 14,
            3 | 4 => 15,
            5.. => 16,
        };
        Self {
            files: bits(files),
            net: if version >= 4 { bits(2) } else { 0 },
            scoped: if version >= 6 { bits(2) } else { 0 },
        }
    }

    /// Fields that an older kernel does not know must not be passed, or be zero: they are.
    fn create(&self) -> io::Result<OwnedFd> {
        let (attributes, size): (*const Self, usize) = (self, size_of::<Self>());
        // SAFETY: the pointer is valid for the size given.
        let fd = result(unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size, 0_u32)
        })?;
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made it for us, close-on-exec.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn allow(&self, ruleset: &OwnedFd, folder: &OwnedFd) -> io::Result<()> {
        let rule = Beneath { allowed: self.files, folder: folder.as_raw_fd() };
        let rule: *const Beneath = &raw const rule;
        // SAFETY: the rule lives until the call has returned.
        result(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                ruleset.as_raw_fd(),
                PATH_BENEATH,
                rule,
                0_u32,
            )
        })?;
        Ok(())
    }
}

fn abi() -> io::Result<i64> {
    // SAFETY: with this flag the call takes no attributes.
    result(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, null::<Ruleset>(), 0_usize, VERSION)
    })
}

fn result(returned: libc::c_long) -> io::Result<i64> {
    Ok(Errno::result(returned)?)
}

fn bits(count: u32) -> u64 {
    u64::MAX.checked_shr(u64::BITS.saturating_sub(count)).unwrap_or(0)
}

/// LANDLOCK_CREATE_RULESET_VERSION.
const VERSION: u32 = 1;
/// LANDLOCK_RULE_PATH_BENEATH.
const PATH_BENEATH: u32 = 1;
