//! What sessions leave behind, and what the programs in them keep.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use std::thread;

use chain_tests::folder::ORDINARY;
use chain_tests::programs::{debian, needs_root};
use chain_tests::{CHAIN, Server, Session, process, session, until};

// DESIGN 2, "Ends": "program 1's code is only logged".
#[test]
fn the_code_of_the_program_before_tls_is_logged() {
    if !needs_root() {
        return;
    }
    let server = Server::new("starttls-wrap ./three");
    let three = "#!/bin/sh\nprintf '220 three\\r\\n'\ncat >/dev/null\nexit 3\n";
    server.folder.script("three", three);
    let server = server.start();
    let mut client = server.connect();
    client.reply();
    let first = Session::of(&server).program().pid;
    client.expect("STARTTLS", "220");
    until("the end of the first program", || session::gone(first).then_some(()));
    client.handshake();
    drop(client);
    server.logged("program before tls ended exit=3");
}

// DESIGN 2: "No resource limit and no no_new_privs in the monitor: the chain would inherit them"; qmail-queue is set-uid.
#[test]
fn a_set_uid_program_behind_the_chain_keeps_its_uid() {
    if !needs_root() || !debian("cc", "gcc") {
        return;
    }
    let server = Server::new("starttls-wrap setuidgid nobody ./scripted");
    server.folder.write("owner.c", SET_UID);
    let compiled = Command::new("cc")
        .args(["-o", "owner", "owner.c"])
        .current_dir(server.folder.path(""))
        .status()
        .unwrap();
    assert!(compiled.success());
    let program = server.folder.path("owner");
    chown(&program, Some(OWNER), Some(OWNER)).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o4755)).unwrap();
    let arm = "WHO) say \"250 $(./owner) $(grep -c 'NoNewPrivs:.0' /proc/self/status)\" ;;";
    let server = server.scripted_with(arm).start();
    let mut client = server.connect();
    client.reply();
    let expected = format!("250 uid={ORDINARY} euid={OWNER} 1");
    assert_eq!(client.ask("WHO"), expected);
    client.starttls();
    assert_eq!(client.ask("WHO"), expected);
}

const OWNER: u32 = 12_345;
const SET_UID: &str = r#"
#include <stdio.h>
#include <unistd.h>
int main(void) { return printf("uid=%d euid=%d", getuid(), geteuid()) < 0; }
"#;

// A thousand sessions leave nothing behind, neither processes nor descriptors nor files.
#[test]
fn a_thousand_sessions_leave_nothing_behind() {
    let server = Server::new(CHAIN).slots(50).start();
    let files = || {
        let output = Command::new("find").arg(server.folder.path("")).output().unwrap().stdout;
        String::from_utf8(output).unwrap().lines().count()
    };
    let children = || process::all().iter().filter(|p| p.parent == server.process().pid).count();
    let session = || {
        let mut client = server.connect();
        client.reply();
        client.starttls();
        client.expect("QUIT", "221");
        client.closed();
    };
    session();
    server.idle();
    let (files_before, memory) = (files(), server.process().status("VmRSS"));
    let descriptors = server.process().descriptors();
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| (0..20).for_each(|_| session()));
        }
    });
    server.idle();
    // Zombies count, too.
    until("a server without children", || (children() == 0).then_some(()));
    assert_eq!(files(), files_before);
    assert_eq!(server.process().descriptors(), descriptors);
    assert_eq!(server.process().status("VmRSS"), memory);
    assert_eq!(server.log().matches("tls ok ").count(), 1_001);
}
