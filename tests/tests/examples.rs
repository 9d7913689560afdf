//! Every run script and unit in examples/, and the one in README.md, is executed as it is printed, but for the port, the account and
//! the folders.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chain_tests::folder::{Key, NAME};
use chain_tests::users::{self, PLAIN};
use chain_tests::{Client, Folder, Process, Server, process, programs, server, until};

#[test]
fn daemontools() {
    if programs::debian("supervise", "daemontools") {
        supervised("daemontools", "setuidgid qmaild", &["supervise"], &["svc", "-dx"]);
    }
}

/// The rules let postmaster's mail in at once, anybody else's must come back.
#[test]
fn daemontools_with_greylist() {
    if !programs::debian("supervise", "daemontools") {
        return;
    }
    let folder = folder();
    folder.write("greylist.rules", read("greylist.rules"));
    fs::create_dir(folder.path("grey")).expect("make the store's folder");
    if programs::root() {
        folder.give("grey");
    }
    let script = edit(
        &read("daemontools/smtp-greylist/run"),
        &[("/var/lib/greylist/", &folder.text("grey/"))],
    );
    let service =
        start(folder, "smtp", &script, "setuidgid qmaild", &["supervise"], &["svc", "-dx"]);
    let connect = || Client::connect(service.address(), &service.folder.path("ca.pem"));
    deliver("smtp", connect());
    let mut client = connect();
    client.reply();
    client.expect("MAIL FROM:<sender@client.test>", "250");
    client.expect(&format!("RCPT TO:<somebody@{NAME}>"), "450 4.7.1 Greylisted, retry=00:01:00");
    client.expect("QUIT", "221");
}

#[test]
fn runit() {
    if programs::debian("runsv", "runit") {
        supervised("runit", "chpst -u qmaild:nofiles", &["runsv"], &["sv", "-v", "force-shutdown"]);
    }
}

#[test]
fn s6() {
    if programs::debian("s6-supervise", "s6") {
        supervised("s6", "s6-setuidgid qmaild", &["s6-supervise"], &["s6-svc", "-dx"]);
    }
}

#[test]
fn the_run_script_of_the_readme() {
    let readme = read("../README.md");
    let (_, script) = readme.split_once("    #!/bin/sh\n").expect("a run script");
    let script: Vec<&str> = script.lines().map_while(|line| line.strip_prefix("    ")).collect();
    assert_eq!(script.len(), 5, "its lines, the first not counted");
    let text = edit(
        &format!("#!/bin/sh\n{}\n", script.join("\n")),
        &[
            ("/usr/local/bin/queue-maildir", "$QMAILQUEUE"),
            ("/var/qmail/inbox", "/var/qmail/Maildir"),
        ],
    );
    if programs::debian("supervise", "daemontools") {
        serve("smtp", &text, "setuidgid qmaild", &["supervise"], &["svc", "-dx"]);
    }
}

#[test]
fn systemd() {
    let account = "/usr/bin/setpriv --reuid=qmaild --regid=nofiles --clear-groups";
    for kind in KINDS {
        let socket = read(&format!("systemd/{kind}.socket"));
        assert!(
            socket.contains("Accept=yes")
                && socket.contains(&format!("ListenStream={}\n", port(kind)))
        );
        let unit = edit(
            &read(&format!("systemd/{kind}@.service")),
            &[(account, &ours(account)), ("/usr/local/bin/", "")],
        );
        let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let mut builder = Server::new(value("ExecStart="))
            .systemd()
            .softlimit(value("LimitAS=").parse().expect("a number"));
        for (name, value) in
            value("Environment=").split(' ').filter_map(|setting| setting.split_once('='))
        {
            let value = match value.strip_prefix("/etc/chainmail/") {
                Some(file) => builder.folder.text(file),
                None => value.to_owned(),
            };
            builder = builder.env(name, &value);
        }
        builder.folder.certificate("cert", Key::P256, &[NAME]);
        fs::rename(builder.folder.path("cert.key"), builder.folder.path("key.pem"))
            .expect("rename the key");
        users::one(&builder.folder);
        let users = builder.folder.text("users.cdb");
        let server = builder.word("/etc/chainmail/users.cdb", &users).start();
        deliver(kind, server.connect());
        assert_eq!(server.mails().len(), 1, "{kind}");
    }
}

const KINDS: [&str; 3] = ["smtp", "smtps", "submission"];

fn port(kind: &str) -> u16 {
    match kind {
        "smtp" => 25,
        "smtps" => 465,
        _ => 587,
    }
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Makes each of the changes, and sees that it changed something.
fn edit(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "no {old:?} in {text}");
        text.replace(old, new)
    })
}

/// The words that give up root, for an account that this machine has; nothing without root.
fn ours(account: &str) -> String {
    match programs::root() {
        true => account.replace("qmaild", "nobody").replace("nofiles", "nogroup"),
        false => "env".to_owned(),
    }
}

/// Sends one mail as the clients of this port do.
fn deliver(kind: &str, mut client: Client) {
    if kind == "smtps" {
        client.handshake();
    }
    client.reply();
    client.expect("EHLO client.test", "250");
    if kind == "submission" {
        client.expect(
            "MAIL FROM:<sender@client.test>",
            "530 5.7.0 Must issue a STARTTLS command first",
        );
    }
    if kind != "smtps" {
        client.starttls();
        client.expect("EHLO client.test", "250");
    }
    if kind != "smtp" {
        client.expect("MAIL FROM:<sender@client.test>", "530 5.7.0 Authentication required");
        client.expect(&format!("AUTH PLAIN {PLAIN}"), "235");
    }
    let reply = client.deliver("Subject: an example\r\n\r\nhello\r\n");
    assert!(reply.starts_with("250"), "{}", client.transcript());
    client.expect("QUIT", "221");
    client.closed();
}

/// Runs the three services of `suite` under its supervisor, delivers to each, and stops it with `stop`.
fn supervised(suite: &str, account: &str, start: &[&str], stop: &[&str]) {
    for kind in KINDS {
        serve(kind, &read(&format!("{suite}/{kind}/run")), account, start, stop);
    }
}

/// Runs one service under its supervisor, delivers to it, and stops it with `stop`.
fn serve(kind: &str, script: &str, account: &str, begin: &[&str], stop: &[&str]) {
    let service = start(folder(), kind, script, account, begin, stop);
    deliver(kind, Client::connect(service.address(), &service.folder.path("ca.pem")));
    assert_eq!(fs::read_dir(service.folder.path("Maildir/new")).expect("read").count(), 1);
}

/// A folder with the certificate as the examples name it.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.certificate("cert", Key::P256, &[NAME]);
    fs::rename(folder.path("cert.key"), folder.path("key.pem")).expect("rename the key");
    folder
}

/// Starts one service under its supervisor.
fn start(
    folder: Folder,
    kind: &str,
    script: &str,
    account: &str,
    begin: &[&str],
    stop: &[&str],
) -> Service {
    let address = format!("0 {}", port(kind));
    let home = folder.text("");
    let text = edit(
        script,
        &[
            (&address, "127.0.0.1 0"),
            (account, &ours(account)),
            ("/etc/chainmail/", &home),
            ("/var/qmail/", &home),
        ],
    );
    users::one(&folder);
    fs::create_dir(folder.path("service")).expect("make the service's folder");
    folder.script("service/run", &text);
    Service::start(folder, begin, stop)
}

/// A service under its supervisor; ended, with all it has started, on drop.
struct Service {
    supervisor: Child,
    stop: Vec<String>,
    folder: Folder,
}

impl Service {
    fn start(folder: Folder, start: &[&str], stop: &[&str]) -> Service {
        let bin = server::bin(&folder);
        let log = File::create(folder.path("log")).expect("create the log");
        let supervisor = Command::new(start[0])
            .args(&start[1..])
            .arg(folder.path("service"))
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()))
            .env("QMAILHOME", folder.path(""))
            .env("QMAILQUEUE", bin.join("queue-maildir"))
            .env("MAILDIR", folder.path("Maildir"))
            // Set and empty, it tells rblsmtpd to ask nobody about the client.
            .env("RBLSMTPD", "")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("start the supervisor");
        let mut stop: Vec<_> = stop.iter().map(|word| (*word).to_owned()).collect();
        stop.push(folder.text("service"));
        Service { supervisor, stop, folder }
    }

    fn processes(&self) -> Vec<Process> {
        let mut found = vec![
            process::of(self.supervisor.id().try_into().expect("a pid")).expect("the supervisor"),
        ];
        let mut next = 0;
        while let Some(process) = found.get(next) {
            found.extend(process.children());
            next += 1;
        }
        found
    }

    fn address(&self) -> SocketAddr {
        let port =
            until("a listening service", || self.processes().iter().find_map(Process::listening));
        (Ipv4Addr::LOCALHOST, port).into()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.path("log")).unwrap_or_default());
        }
        let processes = self.processes();
        let stopped =
            Command::new(&self.stop[0]).args(&self.stop[1..]).stdout(Stdio::null()).status();
        assert!(stopped.is_ok_and(|status| status.success()), "{:?}", self.stop);
        self.supervisor.wait().expect("wait for the supervisor");
        until("the end of the service", || (!processes.iter().any(Process::alive)).then_some(()));
    }
}
