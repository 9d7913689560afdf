//! A real UCSPI server with a chain on a free loopback port.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::folder::{Folder, Key, NAME, ORDINARY};
use crate::process::{self, Process};
use crate::{Client, programs, until, wait};

/// The chain that most tests mean: TLS in front, then smtpd as an ordinary user.
pub const CHAIN: &str = "starttls-wrap setuidgid nobody smtpd";

/// What starts a process for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Tcpserver,
    Systemd,
}

/// How a server is to be started.
#[derive(Debug)]
pub struct Builder {
    chain: Vec<String>,
    environment: BTreeMap<String, String>,
    listener: Listener,
    address: IpAddr,
    ordinary: bool,
    softlimit: Option<u64>,
    slots: u32,
    /// The server's folder, to be changed before the start.
    pub folder: Folder,
}

/// A running server; dropping it ends it, and fails the test if a process of a session is left.
#[derive(Debug)]
pub struct Server {
    process: Child,
    address: SocketAddr,
    chain: String,
    /// Its folder: control files, Maildir, certificates, log.
    pub folder: Folder,
}

impl Server {
    /// A server for this chain, written as in a run script (words at blanks, our programs by name). CERTFILE, KEYFILE, QMAILHOME,
    /// QMAILQUEUE (queue-maildir) and MAILDIR are set; without root, `setuidgid NAME` is left out.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(chain: &str) -> Builder {
        let folder = Folder::new();
        folder.certificate("cert", Key::P256, &[NAME, "127.0.0.1", "::1"]);
        let bin = bin(&folder);
        let queue =
            bin.join("queue-maildir").into_os_string().into_string().expect("a path in UTF-8");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display());
        let environment = [
            ("PATH", path),
            ("CERTFILE", folder.text("cert.pem")),
            ("KEYFILE", folder.text("cert.key")),
            ("QMAILHOME", folder.text("")),
            ("QMAILQUEUE", queue),
            ("MAILDIR", folder.text("Maildir")),
        ];
        Builder {
            chain: chain.split_whitespace().map(str::to_owned).collect(),
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            listener: Listener::Tcpserver,
            address: Ipv4Addr::LOCALHOST.into(),
            ordinary: false,
            softlimit: None,
            slots: 40,
            folder,
        }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The chain as it was written.
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// A connected client that trusts the folder's CA.
    pub fn connect(&self) -> Client {
        Client::connect(self.address, &self.folder.path("ca.pem"))
    }

    /// What the server and its chain have written to descriptor 2.
    pub fn log(&self) -> String {
        read(&self.folder.path("log"))
    }

    /// Waits for a log line that holds `text`, and gives it.
    pub fn logged(&self, text: &str) -> String {
        until(&format!("{text:?} in the log"), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// The mails in the Maildir, in no order that can be relied on.
    pub fn mails(&self) -> Vec<Vec<u8>> {
        self.mail_paths().iter().map(|path| fs::read(path).expect("read a mail")).collect()
    }

    /// The same, and empties the Maildir.
    pub fn take_mails(&self) -> Vec<Vec<u8>> {
        let mails = self.mails();
        self.mail_paths().iter().for_each(|path| fs::remove_file(path).expect("remove a mail"));
        mails
    }

    fn mail_paths(&self) -> Vec<PathBuf> {
        let new = fs::read_dir(self.folder.path("Maildir/new")).expect("read Maildir/new");
        new.map(|entry| entry.expect("read Maildir/new").path()).collect()
    }

    /// The UCSPI server's own process.
    pub fn process(&self) -> Process {
        process::of(pid(&self.process)).expect("a running server")
    }

    /// The processes of its sessions, the server itself and zombies left out.
    pub fn sessions(&self) -> Vec<Process> {
        let mut group = group(pid(&self.process));
        group.retain(|process| process.pid != pid(&self.process));
        group
    }

    /// Waits until no session is left.
    pub fn idle(&self) {
        until("the end of all sessions", || self.sessions().is_empty().then_some(()));
    }
}

impl Builder {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes an environment variable that [`Server::new`] has set.
    pub fn without(mut self, name: &str) -> Builder {
        self.environment.remove(name);
        self
    }

    /// Puts `text`, blanks and all, in place of the chain's word `word`.
    pub fn word(mut self, word: &str, text: &str) -> Builder {
        for other in self.chain.iter_mut().filter(|other| *other == word) {
            *other = text.to_owned();
        }
        self
    }

    /// Writes a file of the server's folder, for example `control/databytes`.
    pub fn file(self, name: &str, content: &str) -> Builder {
        self.folder.write(name, content);
        self
    }

    /// Listens on ::1.
    pub fn ipv6(mut self) -> Builder {
        self.address = Ipv6Addr::LOCALHOST.into();
        self
    }

    /// Listens by `systemd-socket-activate --inetd -a` instead of tcpserver.
    pub fn systemd(mut self) -> Builder {
        self.listener = Listener::Systemd;
        self
    }

    /// Runs everything as an ordinary user, who then owns the folder (nothing changes where the test has no root).
    pub fn ordinary(mut self) -> Builder {
        self.ordinary = true;
        self
    }

    /// Runs everything under `softlimit -m BYTES`.
    pub fn softlimit(mut self, bytes: u64) -> Builder {
        self.softlimit = Some(bytes);
        self
    }

    /// Serves at most so many clients at a time, and lets as many wait (tcpserver only; 40 unless told).
    pub fn slots(mut self, count: u32) -> Builder {
        self.slots = count;
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(mut self) -> Server {
        if self.ordinary || !programs::root() {
            without_setuidgid(&mut self.chain);
        }
        if self.ordinary && programs::root() {
            self.folder.give("");
        }
        let (process, port) = until("a server that listens", || self.try_start());
        let chain = self.chain.join(" ");
        Server { process, address: (self.address, port).into(), chain, folder: self.folder }
    }

    /// The chain alone, with what it needs around it.
    pub(crate) fn command(mut self) -> (Command, Folder) {
        if !programs::root() {
            without_setuidgid(&mut self.chain);
        }
        let mut command = Command::new("env");
        command.args(&self.chain).env_clear().envs(&self.environment);
        command.current_dir(self.folder.path(""));
        (command, self.folder)
    }

    /// `None` if the port was taken by another meanwhile (systemd-socket-activate cannot choose one itself).
    fn try_start(&self) -> Option<(Child, u16)> {
        let argv = self.argv();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().envs(&self.environment).process_group(0);
        command.current_dir(self.folder.path("")).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(
            File::options()
                .append(true)
                .create(true)
                .open(self.folder.path("log"))
                .expect("open the log"),
        );
        if self.ordinary && programs::root() {
            command.uid(ORDINARY).gid(ORDINARY);
        }
        let mut process =
            command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", argv[0]));
        let port = until("a listening server", || match process.try_wait().expect("wait") {
            Some(_) => Some(None),
            None => group(pid(&process)).iter().find_map(Process::listening).map(Some),
        });
        let taken = || read(&self.folder.path("log")).contains("Address already in use");
        assert!(port.is_some() || taken(), "{argv:?} ended: {}", read(&self.folder.path("log")));
        port.map(|port| (process, port))
    }

    /// setpriv ends the server with the test's thread, even where the test is killed.
    fn argv(&self) -> Vec<String> {
        let mut argv: Vec<String> = ["setpriv", "--pdeathsig", "TERM"].map(str::to_owned).into();
        if let Some(bytes) = self.softlimit {
            argv.extend(["softlimit".to_owned(), "-m".to_owned(), bytes.to_string()]);
        }
        match self.listener {
            Listener::Tcpserver => {
                let slots = self.slots.to_string();
                argv.extend(["tcpserver", "-HRDl0", "-b", &slots, "-c", &slots].map(str::to_owned));
                argv.extend([self.address.to_string(), "0".to_owned()]);
            }
            Listener::Systemd => {
                let port =
                    TcpListener::bind((self.address, 0)).and_then(|socket| socket.local_addr());
                let address = port.expect("a free port").to_string();
                argv.extend(
                    ["systemd-socket-activate", "--inetd", "-a", "-l", &address].map(str::to_owned),
                );
                let settings = self.environment.iter();
                argv.extend(
                    settings.flat_map(|(name, value)| ["-E".to_owned(), format!("{name}={value}")]),
                );
            }
        }
        argv.extend(self.chain.iter().cloned());
        argv
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group_id = Pid::from_raw(pid(&self.process));
        kill(group_id, Signal::SIGTERM).expect("end the server");
        self.process.wait().expect("wait for the server");
        let patience =
            if std::thread::panicking() { std::time::Duration::ZERO } else { wait::DEADLINE };
        let left = || group(group_id.as_raw());
        if wait::within(patience, || left().is_empty().then_some(())).is_some()
            && !std::thread::panicking()
        {
            return;
        }
        let left = left();
        if let Err(error) = killpg(group_id, Signal::SIGKILL) {
            eprintln!("end what is left: {error}");
        }
        eprintln!("log of {}:\n{}", self.chain, self.log());
        assert!(std::thread::panicking(), "left of the chain: {left:?}");
    }
}

fn pid(process: &Child) -> i32 {
    process.id().try_into().expect("a pid")
}

fn group(id: i32) -> Vec<Process> {
    process::all()
        .into_iter()
        .filter(|process| process.group == id && process.state != 'Z')
        .collect()
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Where everyone may run our programs: a copy, if their own folder is closed to others (a checkout in root's home).
pub fn bin(folder: &Folder) -> PathBuf {
    let original = programs::folder();
    if programs::reachable(&original) {
        return original;
    }
    let copy = folder.path("bin");
    fs::create_dir(&copy).expect("make bin");
    for entry in fs::read_dir(&original).expect("read the folder of our programs") {
        let entry = entry.expect("read the folder of our programs");
        let mode = entry.metadata().expect("stat a program").permissions().mode();
        if mode & 0o100 != 0 && entry.path().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copy a program");
        }
    }
    copy
}

fn without_setuidgid(chain: &mut Vec<String>) {
    if let Some(at) = chain.iter().position(|word| word == "setuidgid") {
        chain.drain(at..at + 2);
    }
}
