//! Debian's postgrey with a million entries, asked as Postfix asks it: over a connection that stays open.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chain_tests::{Folder, peers, until};

/// The daemon; ended when it is dropped.
pub struct Postgrey {
    process: Child,
    socket: PathBuf,
    _folder: Folder,
}

/// One open connection to it.
pub struct Client(BufReader<UnixStream>);

impl Postgrey {
    /// Starts it, or says that it is not there.
    pub fn start(entries: usize) -> Option<Postgrey> {
        let root = peers::unpacked("postgrey")?;
        let folder = Folder::new();
        fs::create_dir(folder.path("db")).expect("make its folder");
        let perl = || {
            let mut command = Command::new("perl");
            let folders = ["share/perl5", "lib/x86_64-linux-gnu/perl5/5.36"];
            command.args(folders.map(|name| format!("-I{root}/usr/{name}")));
            command.env("LD_LIBRARY_PATH", format!("{root}/usr/lib/x86_64-linux-gnu"));
            command
        };
        let filled = perl().args(["-e", FILL, &folder.text("db"), &entries.to_string()]).status();
        assert!(filled.expect("perl").success(), "postgrey's store cannot be filled");
        folder.give("db");
        let socket = folder.path("db/socket");
        let whitelists = format!("{root}/etc/postgrey");
        let process = perl()
            .args(["-T", &format!("{root}/usr/sbin/postgrey"), "--user=nobody", "--group=nogroup"])
            .args([
                format!("--dbdir={}", folder.text("db")),
                format!("--unix={}", socket.display()),
            ])
            .arg(format!("--whitelist-clients={whitelists}/whitelist_clients"))
            .arg(format!("--whitelist-recipients={whitelists}/whitelist_recipients"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start postgrey");
        until("postgrey's socket", || UnixStream::connect(&socket).ok());
        Some(Postgrey { process, socket, _folder: folder })
    }

    /// A connection to ask over.
    pub fn connect(&self) -> Client {
        Client(BufReader::new(UnixStream::connect(&self.socket).expect("connect to postgrey")))
    }
}

impl Postgrey {
    /// Its processor time until now.
    pub fn cpu(&self) -> std::time::Duration {
        crate::measure::cpu_of(self.process.id().try_into().expect("a pid"))
    }
}

impl Drop for Postgrey {
    fn drop(&mut self) {
        self.process.kill().expect("end postgrey");
        self.process.wait().expect("wait for postgrey");
    }
}

impl Client {
    /// Asks about a client that it knows, or about a triple that it has never seen.
    pub fn ask(&mut self, known: bool, number: usize) {
        let address = if known { "11.0.0.1" } else { "127.0.0.1" };
        let request = format!(
            "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address={address}\n\
             client_name=unknown\nhelo_name=bench.test\nsender=user{number}@sender{number}.example\n\
             recipient=postmaster@mx.test\ninstance=1.{number}\n\n"
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("ask postgrey");
        let mut answer = String::new();
        self.0.read_line(&mut answer).expect("postgrey's answer");
        let expected = if known { "action=DUNNO" } else { "action=DEFER_IF_PERMIT" };
        assert!(answer.starts_with(expected), "{answer}");
        self.0.read_line(&mut answer).expect("an empty line");
    }
}

/// Half a million clients that it knows, half a million triples, in its own formats.
const FILL: &str = r#"
use strict; use BerkeleyDB;
my ($folder, $entries) = @ARGV; my ($now, $half) = (time, $entries / 2);
my %clients; tie(%clients, 'BerkeleyDB::Btree', -Filename => "$folder/postgrey_clients.db", -Flags => DB_CREATE) or die;
my %triples; tie(%triples, 'BerkeleyDB::Btree', -Filename => "$folder/postgrey.db", -Flags => DB_CREATE) or die;
for my $i (0 .. $half - 1) {
  my $net = join('.', 11 + int($i / 65536), int($i / 256) % 256, $i % 256);
  $clients{"$net.1"} = "9,$now";
  $triples{"$net.0/user$i\@domain" . ($i % 997) . ".example/somebody\@mx.test"} = "$now,$now";
}
$clients{'11.0.0.1'} = "9,$now";
"#;
