//! A child that runs one errand: with descriptors of its own, and never longer than it may.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::spawn::{
    PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn, posix_spawnp,
};
use nix::sys::signal::{SigSet, Signal, kill};

use crate::packet::wait_readable;
use crate::process::{Ended, Pid, try_wait, wait};

/// A child that has been started and not yet been waited for.
#[derive(Debug)]
pub struct Errand {
    pid: Pid,
    /// Readable when the child has ended; none before Linux 5.3 and behind filters.
    pidfd: Option<OwnedFd>,
    /// Whom a signal goes to: the child, or its process group.
    target: Pid,
}

impl Errand {
    /// Starts the program at `path` (PATH is not searched) without arguments, with exactly this
    /// environment, and with `descriptors` put on the numbers beside them.
    pub fn start(
        path: &OsStr,
        environment: &[(OsString, OsString)],
        descriptors: &[(BorrowedFd<'_>, RawFd)],
    ) -> io::Result<Self> {
        let above = copies_above(descriptors)?;
        let name = CString::new(path.as_bytes())?;
        let environment = variables(environment)?;
        let (actions, attributes) = (actions(&above)?, attributes(PosixSpawnFlags::empty())?);
        let pid = posix_spawn(path, &actions, &attributes, &[name], &environment)?;
        Ok(Self { pid, pidfd: pidfd_open(pid).ok(), target: pid })
    }

    /// Starts a program found by PATH, with arguments, as the leader of a process group: end() ends all of it.
    pub fn start_group(
        argv: &[OsString],
        environment: &[(OsString, OsString)],
        descriptors: &[(BorrowedFd<'_>, RawFd)],
    ) -> io::Result<Self> {
        let above = copies_above(descriptors)?;
        let argv = argv
            .iter()
            .map(|word| CString::new(word.as_bytes()).map_err(io::Error::from))
            .collect::<io::Result<Vec<_>>>()?;
        let program = argv.first().ok_or(Errno::ENOENT)?;
        let environment = variables(environment)?;
        let group = attributes(PosixSpawnFlags::POSIX_SPAWN_SETPGROUP)?;
        let pid = posix_spawnp(program, &actions(&above)?, &group, &argv, &environment)?;
        let target = Pid::from_raw(pid.as_raw().saturating_neg());
        Ok(Self { pid, pidfd: pidfd_open(pid).ok(), target })
    }

    /// The child's process number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// How the child has ended, or none if it still runs at `deadline`.
    pub fn wait_until(&self, deadline: Instant) -> io::Result<Option<Ended>> {
        loop {
            let ended = try_wait(self.pid)?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            match &self.pidfd {
                // Whether it is ready or too late is found out above.
                Some(pidfd) => drop(wait_readable(pidfd, Some(deadline))),
                None => std::thread::sleep(WITHOUT_PIDFD),
            }
        }
    }

    /// Ends a child that takes too long: SIGALRM, which qmail-queue catches to clean up, then
    /// after `patience` SIGKILL.
    pub fn end(self, patience: Duration) -> io::Result<Ended> {
        kill(self.target, Signal::SIGALRM)?;
        let deadline = Instant::now().checked_add(patience).unwrap_or_else(Instant::now);
        if let Some(ended) = self.wait_until(deadline)? {
            return Ok(ended);
        }
        kill(self.target, Signal::SIGKILL)?;
        wait(self.pid)
    }
}

/// Every variable of this process but those in `without`, then `with`.
pub fn environment(
    without: &[&str],
    with: impl IntoIterator<Item = (impl Into<OsString>, OsString)>,
) -> Vec<(OsString, OsString)> {
    let with: Vec<(OsString, OsString)> =
        with.into_iter().map(|(name, value)| (name.into(), value)).collect();
    std::env::vars_os()
        .filter(|(name, _)| !without.iter().any(|gone| name == gone))
        .filter(|(name, _)| !with.iter().any(|(new, _)| name == new))
        .chain(with.iter().cloned())
        .collect()
}

fn copies_above(descriptors: &[(BorrowedFd<'_>, RawFd)]) -> io::Result<Vec<(OwnedFd, RawFd)>> {
    descriptors.iter().map(|&(fd, number)| Ok((copy_above(fd)?, number))).collect()
}

fn actions(above: &[(OwnedFd, RawFd)]) -> io::Result<PosixSpawnFileActions> {
    let mut actions = PosixSpawnFileActions::init()?;
    for (fd, number) in above {
        actions.add_dup2(fd.as_raw_fd(), *number)?;
    }
    Ok(actions)
}

fn variables(environment: &[(OsString, OsString)]) -> io::Result<Vec<CString>> {
    environment
        .iter()
        .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()]))
        .collect()
}

fn c_string(parts: &[&[u8]]) -> io::Result<CString> {
    Ok(CString::new(OsString::from_vec(parts.concat()).into_vec())?)
}

/// A copy whose number no target can be, so that one dup2(2) does not close what the next one needs.
fn copy_above(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_TARGETS))?;
    // SAFETY: fcntl(2) has just made this descriptor, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// std ignores SIGPIPE in this process; programs expect it at its default, and no signal blocked.
fn attributes(more: PosixSpawnFlags) -> io::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    let flags = PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    attributes.set_flags(flags | more)?;
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    attributes.set_sigmask(&SigSet::empty())?;
    Ok(attributes)
}

fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: only takes numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: pidfd_open(2) has just made this descriptor, and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Above all numbers that programs are given by convention (0 to 7).
const ABOVE_TARGETS: RawFd = 10;

/// How often to look where the kernel cannot tell.
const WITHOUT_PIDFD: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    fn script(name: &str, text: &str) -> OsString {
        let path = std::env::temp_dir().join(format!("errand-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.into()
    }

    fn soon(seconds: u64) -> Instant {
        Instant::now().checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn descriptors_and_environment_are_what_was_given() {
        let path = script("given", "cat <&0 >&1; echo four >&4; echo six >&6; env >&6");
        let (input, mut to_child) = std::io::pipe().unwrap();
        let (mut from_child, output) = std::io::pipe().unwrap();
        let (mut errors, error) = std::io::pipe().unwrap();
        let variables = [("ONLY".into(), "this".into())];
        let descriptors =
            [(input.as_fd(), 0), (output.as_fd(), 1), (error.as_fd(), 4), (error.as_fd(), 6)];
        let errand = Errand::start(&path, &variables, &descriptors).unwrap();
        drop((input, output, error));
        to_child.write_all(b"through").unwrap();
        drop(to_child);
        let mut text = String::new();
        from_child.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        text.clear();
        errors.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("four\nsix\n") && text.contains("ONLY=this\n"), "{text}");
        assert!(!text.contains("HOME="), "{text}");
        assert_eq!(errand.wait_until(soon(20)).unwrap(), Some(Ended::Code(0)));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_at_once() {
        let missing = Errand::start(OsStr::new("/nonexistent/x"), &[], &[]).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn one_that_hangs_is_ended_gently_and_then_not() {
        let null = File::open("/dev/null").unwrap();
        let gentle = script("gentle", "trap 'exit 52' ALRM; echo ready; read x <&5");
        let deaf = script("deaf", "trap '' ALRM; echo ready; read x <&5");
        for (path, patience, ended) in [(gentle, 20, Ended::Code(52)), (deaf, 0, Ended::Signal(9))]
        {
            let (waited_for, _never) = std::io::pipe().unwrap();
            let (mut ready, output) = std::io::pipe().unwrap();
            let descriptors = [(null.as_fd(), 0), (output.as_fd(), 1), (waited_for.as_fd(), 5)];
            let errand = Errand::start(&path, &[], &descriptors).unwrap();
            ready.read_exact(&mut [0; 6]).unwrap();
            assert_eq!(errand.wait_until(Instant::now()).unwrap(), None);
            assert_eq!(errand.end(Duration::from_secs(patience)).unwrap(), ended);
        }
    }

    #[test]
    fn a_group_ends_as_one() {
        let (mut ready, output) = std::io::pipe().unwrap();
        let argv: Vec<OsString> =
            ["sh", "-c", "sleep 1000 & echo ready; wait", "x"].iter().map(OsString::from).collect();
        let environment = environment(&[], [("X", "y".into())]);
        let errand = Errand::start_group(&argv, &environment, &[(output.as_fd(), 1)]).unwrap();
        drop(output);
        let mut text = [0; 6];
        ready.read_exact(&mut text).unwrap();
        assert_eq!(errand.end(Duration::ZERO).unwrap(), Ended::Signal(14));
        // The end of the pipe: nobody of the group holds it any more.
        assert_eq!(ready.read(&mut text).unwrap(), 0);
        let missing = ["no-such-program".into()];
        assert!(Errand::start_group(&missing, &environment, &[]).is_err());
    }

    #[test]
    fn the_environment_is_changed_where_asked() {
        let changed = environment(&["PATH"], [("CARGO", OsString::from("x"))]);
        assert!(!changed.iter().any(|(name, _)| name == "PATH"));
        let cargo: Vec<_> = changed.iter().filter(|(name, _)| name == "CARGO").collect();
        assert_eq!(cargo, [&("CARGO".into(), "x".into())]);
    }
}
