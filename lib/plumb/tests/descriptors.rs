//! Descriptors are adopted, moved, closed and silenced as said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use common::{in_child, read_all, without};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{getsockopt, sockopt::TcpNoDelay};
use plumb::fds;
use plumb::process::Ended;

#[test]
fn close_all_but_closes_all_but() {
    // Linux 5.9 has close_range(2); before, and behind filters, /proc tells what is open.
    for missing in [libc::SYS_acct, libc::SYS_close_range] {
        let ended = in_child(|| {
            without(&[missing]);
            for &n in &[0, 1, 2, 3, 400, 700, 701, 702, 999] {
                fds::move_to(null(), n).unwrap();
            }
            fds::close_all_but(&[700, 2, 701, 0, 999]).unwrap();
            let open: Vec<RawFd> = (0..1_024).filter(|&n| fds::set_cloexec(n).is_ok()).collect();
            u8::from(open != [0, 2, 700, 701, 999])
        });
        assert_eq!(ended, Ended::Code(0));
    }
}

#[test]
fn close_all_but_nothing_closes_all() {
    let ended = in_child(|| {
        fds::close_all_but(&[]).unwrap();
        u8::from((0..1_024).any(|n| fds::set_cloexec(n).is_ok()))
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn adopt_wants_an_open_descriptor_and_marks_it() {
    let ended = in_child(|| {
        fds::close_all_but(&[0, 1, 2]).unwrap();
        assert!(fds::adopt(3).is_err() && fds::adopt(-1).is_err());
        fds::move_to(null(), 3).unwrap();
        assert_eq!(flags(&fds::adopt(3).unwrap()), libc::FD_CLOEXEC);
        // Dropping it has closed it.
        u8::from(fds::adopt(3).is_ok())
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn what_is_moved_or_inherited_survives_exec() {
    let ended = in_child(|| {
        fds::close_all_but(&[0, 1, 2]).unwrap();
        let new = null();
        let number = new.as_raw_fd();
        // To its own number, to another, and kept where it is.
        fds::move_to(new, number).unwrap();
        fds::move_to(null(), 9).unwrap();
        let kept = fds::inherit(null()).unwrap();
        u8::from([number, 9, kept].into_iter().any(|n| flags_of(n) != 0))
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn null_stdio_works_where_numbers_are_closed() {
    let ended = in_child(|| {
        fds::close_all_but(&[2]).unwrap();
        fds::null_stdio(&[0, 1]).unwrap();
        let open = [0, 1].iter().all(|n| {
            std::fs::read_link(format!("/proc/self/fd/{n}")).is_ok_and(|path| path == *"/dev/null")
        });
        u8::from(!open || flags_of(0) != 0 || flags_of(1) != 0 || fds::set_cloexec(3).is_ok())
    });
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn is_socket_knows_sockets() {
    let (a, _b) = fds::socketpair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(fds::is_socket(&a) && fds::is_socket(&listener));
    assert!(!fds::is_socket(null()) && !fds::is_socket(std::io::pipe().unwrap().0));
}

#[test]
fn no_delay_is_set_on_tcp_and_ignored_elsewhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(!getsockopt(&stream, TcpNoDelay).unwrap());
    fds::no_delay(&stream);
    assert!(getsockopt(&stream, TcpNoDelay).unwrap());
    fds::no_delay(null());
}

#[test]
fn a_socketpair_is_connected_and_close_on_exec() {
    let (a, b) = fds::socketpair().unwrap();
    assert_eq!((flags(&a), flags(&b)), (libc::FD_CLOEXEC, libc::FD_CLOEXEC));
    std::io::Write::write_all(&mut File::from(a), b"hello").unwrap();
    assert_eq!(read_all(b), "hello");
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn flags(fd: &OwnedFd) -> i32 {
    fcntl(fd, FcntlArg::F_GETFD).unwrap()
}

fn flags_of(n: RawFd) -> i32 {
    // SAFETY: takes only a number.
    unsafe { libc::fcntl(n, libc::F_GETFD) }
}
