//! greylist's store: missing, broken, locked or replaced; and greylistctl, which looks into it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use chain_tests::folder::ORDINARY;
use chain_tests::greylisting::{
    GREYLIST, assert_grey, ctl, greet, greylist, greylistctl, try_mail,
};
use chain_tests::programs::{needs_root, root};
use chain_tests::{Server, programs};

/// The first session of a server whose store does not work: mail passes, and the log says why in one line.
fn passes_with_one_line(server: &Server, reason: &str) {
    let mut client = greet(server);
    for _ in 0..2 {
        let reply = client.deliver("Subject: passes\r\n\r\ntext\r\n");
        assert!(reply.starts_with("250 "), "{}", client.transcript());
    }
    client.expect("QUIT", "221");
    server.idle();
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("store-down")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains(reason), "not {reason}: {}", lines[0]);
    assert_eq!(server.mails().len(), 2);
}

// "A store file that is missing, read-only, damaged, or on a full disk: mail passes, one log line each."
#[test]
fn a_store_whose_folder_is_missing() {
    let server = greylist(GREYLIST);
    fs::remove_dir(server.folder.path("grey")).expect("remove the store's folder");
    passes_with_one_line(&server.start(), "No such file or directory");
}

#[test]
fn a_store_that_is_read_only() {
    let server = greylist(GREYLIST);
    let folder = server.folder.path("grey");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("chmod");
    passes_with_one_line(&server.start(), "unable to open database file");

    let server = greylist(GREYLIST).start();
    assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
    server.idle();
    let store = server.folder.path("grey/store");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o444)).expect("chmod");
    for log in ["grey/store-wal", "grey/store-shm"] {
        let path = server.folder.path(log);
        fs::set_permissions(path, fs::Permissions::from_mode(0o444)).expect("chmod");
    }
    passes_with_one_line(&server, "readonly");
}

/// What an administrator's tools may leave: other permissions, no log of changes, or the journal of SQLite's other mode.
#[test]
fn a_store_that_was_handled_by_other_tools() {
    if !programs::debian("sqlite3", "sqlite3") {
        return;
    }
    for (mode, journal) in [(0o644, "wal"), (0o640, "delete"), (0o600, "truncate")] {
        let server = greylist(GREYLIST).start();
        assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
        server.idle();
        let store = server.folder.text("grey/store");
        assert!(run("sqlite3", &[&store, &format!("PRAGMA journal_mode={journal}")]));
        fs::set_permissions(&store, fs::Permissions::from_mode(mode)).expect("chmod");
        assert_grey(&try_mail(&mut greet(&server), "another@client.test"));
        assert!(greet(&server).deliver("text\r\n").starts_with("250 "));
        server.idle();
        let log = server.log();
        assert!(!log.contains("store-down"), "{journal}: {log}");
        assert!(ctl(&server, &["list"]).contains("known 127.0.0.0/24"));
    }
}

// greylite's defect 16: a database that cannot be opened shuts out all mail.
#[test]
fn defect_16_a_store_that_is_damaged() {
    let server = greylist(GREYLIST);
    server.folder.write("grey/store", "this was never a database\n".repeat(1_000));
    if root() {
        server.folder.give("grey");
    }
    passes_with_one_line(&server.start(), "file is not a database");
}

/// A small file system that is unmounted again.
struct Disk(String);

impl Disk {
    fn mount(folder: String, options: &str) -> Option<Disk> {
        let mounted = run("mount", &["-t", "tmpfs", "-o", options, "none", &folder]);
        if mounted { Some(Disk(folder)) } else { programs::skip("no tmpfs may be mounted here") }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(run("umount", &["-l", &self.0]));
    }
}

fn run(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).stdout(Stdio::null()).status().expect(program).success()
}

#[test]
fn a_store_on_a_full_disk() {
    if !needs_root() {
        return;
    }
    let server = greylist(GREYLIST);
    let disk = Disk::mount(server.folder.text("grey"), "size=128k,mode=755");
    if disk.is_none() {
        return;
    }
    server.folder.give("grey");
    let server = server.start();
    // A session that works makes the store; then the rest of the disk is taken.
    assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
    server.idle();
    assert!(fs::write(server.folder.path("grey/filler"), vec![0; 1 << 20]).is_err());
    let mut client = greet(&server);
    let [mail, rcpt, data] = try_mail(&mut client, "new@client.test");
    assert!(mail.starts_with("250 ") && rcpt.starts_with("250 "), "{rcpt}");
    assert!(data.starts_with("354 "), "{data}");
    client.send("text\r\n.\r\n");
    assert!(client.reply().starts_with("250 "));
    client.expect("QUIT", "221");
    server.idle();
    let log = server.log();
    assert_eq!(log.matches("store-down").count(), 1, "{log}");
    assert!(log.contains("disk is full"), "{log}");
}

#[test]
fn the_administrator_sees_and_changes_the_store() {
    let server = greylist(GREYLIST).start();
    let mut client = greet(&server);
    assert_grey(&try_mail(&mut client, "Sender+x@Client.test"));
    let list = ctl(&server, &["list"]);
    let start =
        "waiting 127.0.0.0/24 from=<sender@client.test> to=<postmaster@mx.test> since=00:00:";
    assert!(list.starts_with(start) && list.ends_with(" attempts=1\n"), "{list}");
    assert_eq!(ctl(&server, &["remove", "127.0.0.9"]), "removed 127.0.0.0/24 entries=1\n");
    assert_grey(&try_mail(&mut client, "sender@client.test"));
    assert_eq!(ctl(&server, &["add", "127.0.0.1", "pool.example.com", "2001:db8::1"]), "");
    let list = ctl(&server, &["list"]);
    for host in ["127.0.0.0/24", "2001:db8::/64", "pool.example.com"] {
        assert!(list.contains(&format!("known {host} since=00:00:")), "{list}");
    }
    assert!(ctl(&server, &["stats"]).starts_with("known=3 "));
    assert_eq!(ctl(&server, &["expire"]), "expired entries=0\n");
    // A session that began as unknown sees it too.
    assert!(client.deliver("text\r\n").starts_with("250 "));
}

/// An sqlite3 that holds the store.
struct Holder(Child);

impl Holder {
    fn new(server: &Server, statements: &str) -> Holder {
        let mut child = Command::new("sqlite3")
            .arg(server.folder.text("grey/store"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3");
        let input = child.stdin.as_mut().expect("its input");
        writeln!(input, "{statements} SELECT 'held';").expect("write to sqlite3");
        let mut output = BufReader::new(child.stdout.take().expect("its output")).lines();
        assert!(output.any(|line| line.is_ok_and(|line| line == "held")));
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("end sqlite3");
    }
}

// DESIGN 5: "One deadline of 300 ms ...; after the first failure the store counts as down for the rest of the session"
#[test]
fn a_store_that_is_locked_for_ever() {
    if !programs::debian("sqlite3", "sqlite3") {
        return;
    }
    let server = greylist(GREYLIST).start();
    assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
    server.idle();
    let holder = Holder::new(&server, "BEGIN IMMEDIATE;");
    passes_with_one_line(&server, "database is locked");
    drop(holder);
    assert_grey(&try_mail(&mut greet(&server), "another@client.test"));
}

/// What an administrator may do while a session is under way: clear the store up, take it away, or put another in its place.
#[test]
fn a_store_that_goes_away_under_a_session() {
    let server = greylist(GREYLIST).start();
    let mut old = greet(&server);
    assert_grey(&try_mail(&mut old, "sender@client.test"));
    assert_eq!(ctl(&server, &["expire"]), "expired entries=0\n");
    assert_grey(&try_mail(&mut old, "another@client.test"));
    for name in ["store", "store-wal", "store-shm"] {
        fs::remove_file(server.folder.path("grey").join(name)).expect("remove");
    }
    let mut new = greet(&server);
    assert_grey(&try_mail(&mut new, "sender@client.test"));
    assert_grey(&try_mail(&mut old, "third@client.test"));
    let list = ctl(&server, &["list"]);
    assert!(list.contains("attempts=1") && list.lines().count() == 1, "{list}");
    old.expect("QUIT", "221");
    new.expect("QUIT", "221");
    server.idle();
    assert!(greet(&server).deliver("text\r\n").starts_with("250 "));
    server.logged("passed why=came-back");
    assert!(!server.log().contains("store-down"));
    assert!(ctl(&server, &["list"]).starts_with("known 127.0.0.0/24 "));
}

/// In the place of the store lies something that is no file, or a link that leads out of its folder.
#[test]
fn what_lies_in_the_place_of_a_store() {
    let place = |server: &Server| server.folder.path("grey/store");
    let outside = greylist(GREYLIST).start();
    assert_grey(&try_mail(&mut greet(&outside), "sender@client.test"));
    outside.idle();
    let before = fs::read(place(&outside)).expect("the store outside");
    let makers: [&dyn Fn(&Server); 3] = [
        &|server| fs::create_dir(place(server)).expect("make a folder"),
        &|server| {
            nix::unistd::mkfifo(&place(server), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        },
        &|server| symlink(place(&outside), place(server)).expect("make a link"),
    ];
    for make in makers {
        let server = greylist(GREYLIST).start();
        make(&server);
        passes_with_one_line(&server, "unable to open");
    }
    assert_eq!(fs::read(place(&outside)).expect("the store outside"), before);
}

/// As root, as the owner of the folder and as somebody else; with words that make no sense; on a store that is none.
#[test]
fn greylistctl_says_what_is_wrong() {
    let server = greylist(GREYLIST).start();
    assert_grey(&try_mail(&mut greet(&server), "sender@client.test"));
    let run = |command: &mut Command| {
        let output = command.output().expect("greylistctl");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().expect("a code"), String::from_utf8(said).expect("text"))
    };
    for words in [
        &[][..],
        &["shrug"],
        &["list", "all"],
        &["add"],
        &["remove"],
        &["add", "a b"],
        &["add", "192.0.2.1/24"],
        &["add", "x"],
        &["remove", "-1"],
        &["add", "example.org", "..."],
    ] {
        let (code, said) = run(&mut greylistctl(&server, words));
        assert_eq!(code, 100, "{words:?}: {said}");
        assert!(said.contains("usage: greylistctl "), "{words:?}: {said}");
    }
    assert_eq!(ctl(&server, &["list"]).lines().count(), 1, "nothing of that was done");
    if root() && programs::reachable(&programs::folder()) {
        let (code, said) = run(greylistctl(&server, &["stats"]).uid(ORDINARY).gid(ORDINARY));
        assert!(code == 0 && said.starts_with("known=0 "), "{said}");
        let (code, said) = run(greylistctl(&server, &["stats"]).uid(ORDINARY - 1));
        assert!(code == 111 && said.contains("/grey/store: unable to open"), "{said}");
    }
    // As in `greylistctl list | head -0`.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let (code, said) = run(greylistctl(&server, &["list"]).stdout(writer));
    assert_eq!((code, said.as_str()), (0, ""));
    server.idle();
    let whole = fs::read(server.folder.path("grey/store-wal")).expect("a log");
    for name in ["store", "store-wal"] {
        let damaged = vec![0x55; whole.len()];
        fs::write(server.folder.path("grey").join(name), damaged).expect("damage it");
    }
    for words in [&["list"][..], &["add", "192.0.2.1"], &["remove", "::1"], &["expire"], &["stats"]]
    {
        let (code, said) = run(&mut greylistctl(&server, words));
        assert!(code == 111 && said.contains("not a database"), "{words:?}: {said}");
    }
    fs::remove_dir_all(server.folder.path("grey")).expect("remove");
    let (code, said) = run(&mut greylistctl(&server, &["list"]));
    assert!(code == 111 && said.contains("No such file"), "{said}");
}
