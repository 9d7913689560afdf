//! Root is given up for good, or the program says which variable is to be set.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod common;

use std::ffi::OsString;

use common::{in_child, root_or_skip};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setuid};
use plumb::die::CONFIGURATION;
use plumb::privs::{Identity, Ids, OWN_BASE, drop_to, empty_root};
use plumb::process::Ended;

#[test]
fn dropped_root_does_not_come_back() {
    if !root_or_skip("dropped_root_does_not_come_back") {
        return;
    }
    let ended = in_child(|| {
        setgroups(&[Gid::from_raw(0), Gid::from_raw(4)]).unwrap();
        drop_to(Ids { uid: 65_534, gid: 65_533 }).unwrap();
        let (users, groups) = (getresuid().unwrap(), getresgid().unwrap());
        assert_eq!([users.real, users.effective, users.saved], [Uid::from_raw(65_534); 3]);
        assert_eq!([groups.real, groups.effective, groups.saved], [Gid::from_raw(65_533); 3]);
        assert_eq!(getgroups().unwrap(), []);
        let root = Uid::from_raw(0);
        u8::from(setuid(root).is_ok() || nix::unistd::setresuid(root, root, root).is_ok())
    });
    assert_eq!(ended, Ended::Code(0));
}

/// SECBIT_NO_SETUID_FIXUP lets capabilities outlive setresuid(2).
#[test]
fn root_that_could_come_back_is_an_error() {
    if !root_or_skip("root_that_could_come_back_is_an_error") {
        return;
    }
    let ended = in_child(|| {
        // SAFETY: takes numbers only; 1 << 2 is SECBIT_NO_SETUID_FIXUP.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 1 << 2) }, 0);
        u8::from(drop_to(Ids { uid: 65_534, gid: 65_534 }).is_ok())
    });
    assert_eq!(ended, Ended::Code(0));
}

// DESIGN 2: "TLS_UID, TLS_GID ...: numeric".
#[test]
fn variables_that_cannot_be_meant_are_refused_by_name() {
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("TLS_UID", "qmaild"), ("TLS_GID", "1")], "TLS_UID is not a number"),
        (&[("TLS_UID", ""), ("TLS_GID", "1")], "TLS_UID is not a number"),
        (&[("TLS_UID", "-1"), ("TLS_GID", "1")], "TLS_UID is not a number"),
        (&[("TLS_UID", "+1"), ("TLS_GID", "1")], "TLS_UID is not a number"),
        (&[("TLS_UID", "1"), ("TLS_GID", "4294967295")], "TLS_GID is not a number"),
        (&[("TLS_UID", "1"), ("TLS_GID", "4294967296")], "TLS_GID is not a number"),
        (&[("TLS_UID", "0"), ("TLS_GID", "1")], "TLS_UID must not be 0"),
        (&[("TLS_UID", "1")], "TLS_GID is not set"),
        (&[("TLS_GID", "1")], "TLS_UID is not set"),
    ];
    for (variables, message) in cases {
        let error = Identity::from_env("TLS", env(variables)).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), (message, CONFIGURATION));
    }
}

#[test]
fn root_becomes_what_is_said_or_a_uid_of_its_own_and_others_stay() {
    let given = [("AUTH_UID", "101"), ("AUTH_GID", "102"), ("TLS_UID", "7")];
    let found =
        [Identity::from_env("AUTH", env(&given)), Identity::from_env("RECORDIO", env(&given))]
            .map(Result::unwrap);
    if root_or_skip("root_becomes_what_is_said") {
        let own = Identity::Own("RECORDIO_UID".into());
        assert_eq!(found, [Identity::Given(Ids { uid: 101, gid: 102 }), own]);
        assert_eq!(Ids::own().uid, OWN_BASE + std::process::id());
    } else {
        assert_eq!(found, [Identity::Unchanged, Identity::Unchanged]);
    }
}

// DESIGN 2: "where that is impossible (a small user namespace), exit 100 and a line that names the variable to set".
#[test]
fn a_small_user_namespace_is_told_which_variable_to_set() {
    let ended = in_child(|| {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        // SAFETY: takes flags only.
        if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
            return 77;
        }
        std::fs::write("/proc/self/setgroups", "deny").unwrap();
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
        let error = Identity::from_env("TLS", |_| None).unwrap_err();
        let named = error.to_string().ends_with("set TLS_UID");
        u8::from(!named || error.exit_code() != CONFIGURATION)
    });
    if ended == Ended::Code(77) {
        return eprintln!("SKIPPED a_small_user_namespace: user namespaces are forbidden here");
    }
    assert_eq!(ended, Ended::Code(0));
}

#[test]
fn the_empty_root_is_empty() {
    if !root_or_skip("the_empty_root_is_empty") {
        return;
    }
    let ended = in_child(|| {
        empty_root().unwrap();
        let nothing = std::fs::read_dir("/").unwrap().next().is_none();
        u8::from(!nothing || std::env::current_dir().unwrap() != *"/")
    });
    assert_eq!(ended, Ended::Code(0));
}

fn env(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
}
