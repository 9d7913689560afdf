//! A locked-in process can do its work and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use common::{FORBIDDEN, child, in_child, root_or_skip, status, without};
use plumb::die::CONFIGURATION;
use plumb::fds;
use plumb::privs::{Identity, OWN_BASE, enter_folder, keep_files_private};
use plumb::process::{Ended, wait};
use plumb::sandbox::{Profile, confine, lock_in};

// DESIGN 2: "own uid, empty root, seccomp + Landlock"; a process that is taken over gets no further.
#[test]
fn a_forbidden_system_call_is_death() {
    let forbidden = [
        ("openat", libc::SYS_openat),
        ("openat2", libc::SYS_openat2),
        ("socket", libc::SYS_socket),
        ("socketpair", libc::SYS_socketpair),
        ("connect", libc::SYS_connect),
        ("accept4", libc::SYS_accept4),
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("clone", libc::SYS_clone),
        ("clone3", libc::SYS_clone3),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("kill", libc::SYS_kill),
        ("setsockopt", libc::SYS_setsockopt),
        ("setuid", libc::SYS_setuid),
        ("prctl", libc::SYS_prctl),
        ("dup", libc::SYS_dup),
        ("ioctl", libc::SYS_ioctl),
        ("memfd_create", libc::SYS_memfd_create),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("unshare", libc::SYS_unshare),
        #[cfg(target_arch = "x86_64")]
        ("open", libc::SYS_open),
        #[cfg(target_arch = "x86_64")]
        ("fork", libc::SYS_fork),
        // The x32 ABI reaches the same calls by other numbers.
        #[cfg(target_arch = "x86_64")]
        ("x32 getpid", 0x4000_0000 | libc::SYS_getpid),
    ];
    for (name, call) in forbidden {
        assert_eq!(locked_in(|| call_with_zeros(call)), FORBIDDEN, "{name}");
    }
}

#[test]
fn memory_never_becomes_code() {
    let code = libc::PROT_READ | libc::PROT_EXEC;
    assert_eq!(locked_in(|| map(libc::PROT_READ | libc::PROT_WRITE)), Ended::Code(0));
    assert_eq!(locked_in(|| map(code)), FORBIDDEN);
    let change = |protection| {
        // SAFETY: an address that is not mapped only gives ENOMEM.
        unsafe { libc::mprotect(std::ptr::null_mut(), 4_096, protection) };
        0
    };
    assert_eq!(locked_in(|| change(libc::PROT_READ)), Ended::Code(0));
    assert_eq!(locked_in(|| change(code)), FORBIDDEN);
}

#[test]
fn a_relay_can_do_its_work() {
    let (mut near, far) = UnixStream::pair().unwrap();
    let pid = child(|| {
        let work = || -> std::io::Result<u8> {
            let mut far = far;
            lock_in(Profile::relay(), true).map_err(std::io::Error::other)?;
            let mut word = [0; 5];
            far.read_exact(&mut word)?;
            let megabytes = vec![word[0]; 8 << 20];
            let mut random = [0_u8; 16];
            // SAFETY: a buffer of 16 bytes.
            let got = unsafe { libc::getrandom(random.as_mut_ptr().cast(), 16, 0) };
            let grown: Vec<u8> = megabytes.iter().chain(&megabytes).copied().collect();
            far.write_all(&grown[..5])?;
            far.shutdown(std::net::Shutdown::Both)?;
            drop(far);
            let now = std::time::SystemTime::now();
            Ok(u8::from(got != 16 || now == std::time::UNIX_EPOCH))
        };
        work().unwrap_or(1)
    });
    near.write_all(b"hello").unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hhhhh");
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
}

#[test]
fn a_reader_can_read_what_is_open() {
    let file = File::open("/etc/passwd").unwrap();
    let whole = std::fs::read("/etc/passwd").unwrap();
    let ended = in_child(|| {
        let mut file = file;
        let mut read = Vec::new();
        let done = lock_in(Profile::reader(), true).is_ok() && file.read_to_end(&mut read).is_ok();
        u8::from(!done || read != whole)
    });
    assert_eq!(ended, Ended::Code(0));
}

/// A database makes, locks, syncs and cuts its files, and sees no others; as root, the folder is all there is.
#[test]
fn a_database_has_its_folder_and_nothing_else() {
    let folder = std::env::temp_dir().join(format!("plumb-database-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let root = nix::unistd::geteuid().is_root();
    let ended = in_child(|| {
        let work = || -> std::io::Result<u8> {
            let open = OwnedFd::from(File::open(&folder)?);
            enter_folder(&open)?;
            keep_files_private();
            let lacking = lock_in(Profile::database(open), false).map_err(std::io::Error::other)?;
            let file =
                File::options().read(true).write(true).create(true).truncate(false).open("log")?;
            file.set_permissions(std::fs::Permissions::from_mode(0o640))?;
            file.write_all_at(b"text", 0)?;
            file.sync_all()?;
            file.set_len(2)?;
            nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&EVERYTHING))?;
            std::thread::sleep(std::time::Duration::from_nanos(1));
            let mine = std::fs::read("log")? == b"te";
            std::fs::remove_file("log")?;
            File::create("left")?;
            let confined = root || !lacking.contains(&"landlock");
            let outside = ["/etc/passwd", "../../etc/passwd"].map(|path| File::open(path).is_ok());
            Ok(u8::from(!mine || (confined && outside.contains(&true))))
        };
        work().unwrap_or(1)
    });
    let mode = std::fs::metadata(folder.join("left")).map(|data| data.mode() & 0o777);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(ended, Ended::Code(0));
    assert_eq!(mode.unwrap(), 0o600);
}

const EVERYTHING: libc::flock =
    libc::flock { l_type: 1, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };

/// With the calls allowed, only Landlock stands in the way.
#[test]
fn landlock_denies_files_but_those_beneath_a_folder() {
    let folder = std::env::temp_dir().join(format!("plumb-landlock-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mine"), "x").unwrap();
    let ended = in_child(|| {
        let open = OwnedFd::from(File::open(&folder).unwrap());
        let profile = Profile::reader().with(&[libc::SYS_openat]).beneath(open);
        let lacking = lock_in(profile, false).unwrap_or_default();
        let denied =
            |path: &str| File::open(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
        let mine = std::fs::read(folder.join("mine")).is_ok();
        match (lacking.contains(&"landlock"), mine && denied("/etc/passwd") && denied("/")) {
            (true, _) => 77,
            (false, right) => u8::from(!right),
        }
    });
    std::fs::remove_dir_all(&folder).unwrap();
    if ended == Ended::Code(77) {
        return eprintln!("SKIPPED landlock_denies_files: this kernel lacks Landlock");
    }
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn landlock_denies_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = in_child(|| {
        let calls = [libc::SYS_socket, libc::SYS_connect, libc::SYS_setsockopt];
        let lacking = lock_in(Profile::relay().with(&calls), false).unwrap_or_default();
        match (lacking.contains(&"landlock"), TcpStream::connect(address)) {
            (true, _) => 77,
            (false, Err(cause)) => u8::from(cause.kind() != ErrorKind::PermissionDenied),
            (false, Ok(_)) => 1,
        }
    });
    // Landlock knows TCP since ABI 4 (Linux 6.7).
    if ended == Ended::Code(77) {
        return eprintln!("SKIPPED landlock_denies_tcp: this kernel lacks Landlock");
    }
    assert_eq!(ended, Ended::Code(0));
}

// DESIGN 2: "Unset and started as root: a uid of its own for each process", "empty root".
#[test]
fn confine_leaves_nothing_of_root() {
    if !root_or_skip("confine_leaves_nothing_of_root") {
        return;
    }
    let identity = Identity::from_env("TLS", |_| None).unwrap();
    let (near, far) = fds::socketpair().unwrap();
    let pid = child(|| {
        let lacking = confine(&identity, Profile::relay(), false);
        let mut far = UnixStream::from(far);
        far.write_all(b"x").and_then(|()| far.read_exact(&mut [0])).ok();
        u8::from(lacking.is_err())
    });
    let mut near = UnixStream::from(near);
    near.read_exact(&mut [0]).unwrap();
    let own = OWN_BASE + pid.as_raw().unsigned_abs();
    let facts = ["Uid", "Gid", "Groups", "CapPrm", "CapEff", "NoNewPrivs", "Seccomp"]
        .map(|name| status(pid, name));
    let root = std::fs::read_link(format!("/proc/{pid}/root")).unwrap();
    near.write_all(b"x").unwrap();
    assert_eq!(wait(pid).unwrap(), Ended::Code(0));
    let four = [own.to_string(), own.to_string(), own.to_string(), own.to_string()].join(" ");
    assert_eq!(facts, [&four, &four, "", "0000000000000000", "0000000000000000", "1", "2"]);
    assert!(["/run/chainmail-empty", "/var/empty"].contains(&root.to_str().unwrap()), "{root:?}");
}

// DESIGN 2: "Without Landlock or seccomp in the kernel: go on, one log line; `-S` demands them."
#[test]
fn what_the_kernel_lacks_is_named_and_refused_only_on_demand() {
    let lacks: [(&[i64], &[&str]); 3] = [
        (&[libc::SYS_landlock_create_ruleset], &["landlock"]),
        (&[libc::SYS_seccomp], &["seccomp"]),
        (&[libc::SYS_landlock_create_ruleset, libc::SYS_seccomp], &["landlock", "seccomp"]),
    ];
    for (missing, names) in lacks {
        let goes_on = in_child(|| {
            without(missing);
            u8::from(lock_in(Profile::relay(), false).unwrap() != names)
        });
        assert_eq!(goes_on, Ended::Code(0), "{names:?}");
        let demands = in_child(|| {
            without(missing);
            let error = lock_in(Profile::relay(), true).unwrap_err();
            assert_eq!(error.to_string(), format!("this machine lacks {}", names[0]));
            error.exit_code()
        });
        assert_eq!(demands, Ended::Code(CONFIGURATION), "{names:?}");
    }
}

fn locked_in(body: impl FnOnce() -> u8) -> Ended {
    in_child(|| if lock_in(Profile::relay(), true).is_ok() { body() } else { 99 })
}

fn call_with_zeros(call: i64) -> u8 {
    // SAFETY: null pointers and zeros at most give EFAULT or EBADF; the filter is to stop the call before.
    unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) };
    0
}

fn map(protection: libc::c_int) -> u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping touches nothing that exists.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4_096, protection, flags, -1, 0) };
    u8::from(page == libc::MAP_FAILED)
}
