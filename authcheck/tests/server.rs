//! `authcheck -s` with a program that says on SASLFD what the test says on descriptor 0.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Folder, no_databases, record, root, said};

/// A chain of authcheck and a program.
struct Chain {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// Passes lines both ways until its input ends; bash, because SASLFD can have two digits.
const PASS_ON: &str = "cat <&$SASLFD & cat >&$SASLFD; kill $! 2>/dev/null; exit 0";

impl Chain {
    fn start(arguments: &[&str], env: &[(&str, &str)]) -> Self {
        Self::with(arguments, env, &["bash", "-c", PASS_ON])
    }

    fn with(arguments: &[&str], env: &[(&str, &str)], program: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_authcheck"));
        command.arg("-s").args(arguments).args(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TCPREMOTEIP", "192.0.2.1");
        command.env("CONNID", "c.1").envs(env.iter().copied());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        // In one write: the reader may be gone after half of it.
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// The next line, empty at the end.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.hear()
    }

    /// Ends the input, and gives the exit code and the log.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.child.stdin.take());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }

    /// The children of the program: authcheck's own processes among them.
    fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(path).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// The password process: the one that is called so.
    fn password_process(&self) -> u32 {
        let mut found = self.children();
        found.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "authcheck\n"
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    }
}

fn plain(login: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", authcheck::text::encode(format!("\0{login}\0{password}").as_bytes()))
}

const FAILED: &str = "535 5.7.8 authentication failed";
const TEMPORARY: &str = "454 4.7.0 temporary authentication failure";

const ALLOWED: (&str, &str) = ("ALLOW_INSECURE_AUTH", "1");

fn users(folder: &Folder) -> PathBuf {
    folder.users(&record(&["u", "env=DATABYTES=5"], "tanstaaf"))
}

#[test]
fn a_whole_conversation() {
    let folder = Folder::new("conversation");
    let users = users(&folder);
    let mut chain =
        Chain::start(&[users.to_str().unwrap()], &[("SSL", "1"), ("SSL_PROTOCOL", "TLSv1.3")]);
    assert_eq!(chain.ask("MECHS"), "MECHS SCRAM-SHA-256 PLAIN LOGIN");
    assert_eq!(chain.ask(&plain("u", "wrong")), FAILED);
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), "ENV DATABYTES=5");
    assert_eq!(chain.hear(), "235 u");
    let (code, log) = chain.end();
    assert_eq!(code, Some(0), "{log}");
    let tail = "[192.0.2.1] u mech=PLAIN tls=TLSv1.3";
    assert!(
        log.contains(&format!(": AUTH failed {tail} reason=wrong-password connid=c.1\n")),
        "{log}"
    );
    assert!(log.contains(&format!(": AUTH successful {tail} connid=c.1\n")), "{log}");
    assert!(!log.contains("tanstaaf") && !log.contains("wrong\n"), "{log}");
}

#[test]
fn what_the_environment_allows() {
    let folder = Folder::new("allows");
    let users = users(&folder);
    let exporter = "0f".repeat(32);
    for (env, offered) in [
        (vec![], ""),
        (vec![("ALLOW_INSECURE_AUTH", "0"), ("FORCETLS", "1"), ("SSL", "0")], ""),
        (vec![("SSL", "1")], " SCRAM-SHA-256 PLAIN LOGIN"),
        (vec![ALLOWED], " SCRAM-SHA-256 PLAIN LOGIN"),
        (vec![("FORCETLS", "0")], " SCRAM-SHA-256 PLAIN LOGIN"),
        (vec![("SSLCTLFD", "9")], " SCRAM-SHA-256 PLAIN LOGIN"),
        (
            vec![("SSL", "1"), ("SSL_TLS_EXPORTER", &exporter)],
            " SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN",
        ),
        (vec![("SSL", "1"), ("SSL_TLS_EXPORTER", "0f")], " SCRAM-SHA-256 PLAIN LOGIN"),
    ] {
        let mut chain = Chain::start(&[users.to_str().unwrap()], &env);
        assert_eq!(chain.ask("MECHS"), format!("MECHS{offered}"), "{env:?}");
        if offered.is_empty() {
            assert_eq!(chain.ask(&plain("u", "tanstaaf")), "504 5.5.4 mechanism not available");
        }
        assert_eq!(chain.end().0, Some(0));
    }
}

#[test]
fn a_database_that_is_missing_or_damaged_is_temporary() {
    let folder = Folder::new("temporary");
    let users = users(&folder);
    let whole = fs::read(&users).unwrap();
    let missing = folder.path("missing.cdb");
    let mut chain = Chain::start(&[missing.to_str().unwrap()], &[ALLOWED]);
    assert_eq!(chain.ask("MECHS"), "MECHS PLAIN LOGIN");
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), TEMPORARY);
    let (_, log) = chain.end();
    assert!(
        log.contains("AUTH unavailable [192.0.2.1] - ") && log.contains("missing.cdb"),
        "{log}"
    );
    // Damaged while the connection is open; the login that does not exist fares the same.
    let mut chain = Chain::start(&[users.to_str().unwrap()], &[ALLOWED]);
    assert_eq!(chain.ask("MECHS"), "MECHS SCRAM-SHA-256 PLAIN LOGIN");
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&users, &damaged).unwrap();
    for login in ["u", "nobody"] {
        assert_eq!(chain.ask(&plain(login, "tanstaaf")), TEMPORARY);
    }
    fs::write(&users, &whole).unwrap();
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), "ENV DATABYTES=5");
    // Replaced: this connection goes on with what it has opened.
    fs::remove_file(&users).unwrap();
    folder.users(&record(&["v"], "tanstaaf"));
    assert_eq!(chain.hear(), "235 u");
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), "ENV DATABYTES=5");
    chain.end();
}

// A FIFO must not hang the session, and nothing that is no database is a wrong password.
#[test]
fn what_is_no_database_is_temporary() {
    let folder = Folder::new("odd-s");
    for path in no_databases(&folder) {
        let path = path.to_str().unwrap();
        let mut chain = Chain::start(&[path], &[ALLOWED]);
        assert_eq!(chain.ask("MECHS"), "MECHS PLAIN LOGIN");
        for _ in 0..3 {
            assert_eq!(chain.ask(&plain("u", "tanstaaf")), TEMPORARY, "{path}");
        }
        let (_, log) = chain.end();
        assert_eq!(log.matches("AUTH unavailable [192.0.2.1] - mech=PLAIN").count(), 3, "{log}");
        assert!(log.contains(path) && !log.contains("AUTH failed"), "{log}");
    }
}

#[test]
fn the_third_failure_ends_it_unanswered() {
    let folder = Folder::new("third");
    let users = users(&folder);
    let until_it_ends = "cat <&0 >&$SASLFD & cat <&$SASLFD; echo end; wait";
    let arguments = [users.to_str().unwrap()];
    let mut chain = Chain::with(&arguments, &[ALLOWED], &["bash", "-c", until_it_ends]);
    for _ in 0..2 {
        assert_eq!(chain.ask(&plain("nobody", "hunter2")), FAILED);
    }
    assert_eq!(chain.ask(&plain("hunter2", "hunter2")), "end");
    let (_, log) = chain.end();
    assert_eq!(log.matches("AUTH failed [192.0.2.1] - mech=PLAIN").count(), 3, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// Whom and what /proc shows.
fn status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    line.unwrap().to_owned()
}

#[test]
fn the_password_process_is_locked_in_and_holds_what_it_needs() {
    let folder = Folder::new("locked");
    let users = users(&folder);
    let mut chain = Chain::start(&[users.to_str().unwrap()], &[ALLOWED]);
    assert!(chain.ask("MECHS").contains("PLAIN"));
    let pid = chain.password_process();
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_ne!(status(chain.child.id(), "NoNewPrivs"), "1", "the program may be set-uid");
    let mut open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
            (entry.file_name().to_string_lossy().parse::<u32>().unwrap(), target)
        })
        .collect();
    open.sort();
    let targets: Vec<_> = open.iter().map(|(_, target)| target.as_str()).collect();
    assert_eq!(&targets[..2], ["/dev/null", "/dev/null"], "{open:?}");
    assert_eq!(open.len(), 5, "{open:?}");
    assert!(targets[3..].contains(&users.to_str().unwrap()), "{open:?}");
    assert!(targets[3..].iter().any(|target| target.starts_with("socket:")), "{open:?}");
    // The program has no way to the database.
    let program = chain.child.id();
    for entry in fs::read_dir(format!("/proc/{program}/fd")).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(target, users);
    }
    if root() {
        let uids: Vec<_> = status(pid, "Uid").split_whitespace().map(str::to_owned).collect();
        assert!(uids.iter().all(|uid| *uid == (2_100_000_000 + pid).to_string()), "{uids:?}");
        let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
        assert_ne!(root, Path::new("/"));
    }
    chain.end();
}

#[test]
fn ids_are_taken_and_taken_away() {
    let folder = Folder::new("ids");
    let users = users(&folder);
    let bad = [("AUTH_UID", "65531"), ALLOWED];
    let (code, log) = Chain::start(&[users.to_str().unwrap()], &bad).end();
    if root() {
        assert_eq!(code, Some(100), "{log}");
        assert!(log.contains("AUTH_GID is not set"), "{log}");
        let ids = [("AUTH_UID", "65531"), ("AUTH_GID", "65530"), ALLOWED];
        let script = format!("env; {PASS_ON}");
        let mut chain = Chain::with(&[users.to_str().unwrap()], &ids, &["bash", "-c", &script]);
        chain.say("MECHS");
        let mut environment = String::new();
        loop {
            let line = chain.hear();
            if line.starts_with("MECHS ") {
                break;
            }
            environment.push_str(&line);
        }
        assert!(
            !environment.contains("AUTH_UID") && !environment.contains("AUTH_GID"),
            "{environment}"
        );
        assert!(environment.contains("CONNID=c.1"), "{environment}");
        assert!(status(chain.password_process(), "Uid").starts_with("65531\t"));
        assert!(status(chain.password_process(), "Gid").starts_with("65530\t"));
        chain.end();
    }
}

// The password is nowhere but in the memory of the processes that hold it, while they hold it.
#[test]
fn nothing_secret_in_arguments_and_environment() {
    let folder = Folder::new("secret");
    let users = users(&folder);
    let mut chain = Chain::start(&[users.to_str().unwrap()], &[ALLOWED]);
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), "ENV DATABYTES=5");
    assert_eq!(chain.hear(), "235 u");
    let encoded = plain("u", "tanstaaf");
    let encoded = encoded.rsplit(' ').next().unwrap();
    let pid = chain.password_process();
    for pid in [pid, chain.child.id()] {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains("tanstaaf") && !text.contains(encoded), "{text}");
        }
    }
    // What was zeroed cannot be found by root either.
    if root() {
        assert!(!remembers(pid, b"tanstaaf"), "the password is still in memory");
        assert!(!remembers(pid, encoded.as_bytes()), "its base64 is still in memory");
    }
    chain.end();
}

// Whatever kind of hash the record has, and whatever became of the attempt: nothing of the password stays.
#[test]
fn no_kind_of_hash_leaves_the_password_in_memory() {
    if !root() {
        return;
    }
    let folder = Folder::new("kinds");
    // openssl passwd, mkpasswd and crypt(3) of tanstaaf-8321.
    let hashes = KINDS.iter().enumerate().map(|(n, hash)| format!("u{n}\t{hash}\n"));
    let scram = record(&["scram"], SECRET);
    let scram = scram.split('\t').filter(|field| !field.starts_with("pw=")).collect::<Vec<_>>();
    let users = folder.users(&[hashes.collect::<String>(), scram.join("\t")].concat());
    let logins = (0..KINDS.len()).map(|n| format!("u{n}")).chain(["scram".into(), "nobody".into()]);
    for login in logins {
        for (mechanism, wrong) in [("PLAIN", ""), ("LOGIN", "x")] {
            let mut chain = Chain::start(&[users.to_str().unwrap()], &[ALLOWED]);
            let password = format!("{SECRET}{wrong}");
            let reply = match mechanism {
                "PLAIN" => chain.ask(&plain(&login, &password)),
                _ => {
                    let [login, password] =
                        [&login, &password].map(|text| authcheck::text::encode(text.as_bytes()));
                    assert_eq!(chain.ask(&format!("AUTH LOGIN {login}")), "334 UGFzc3dvcmQ6");
                    chain.ask(&format!("LINE {password}"))
                }
            };
            let right = wrong.is_empty() && login != "nobody";
            assert_eq!(reply, if right { format!("235 {login}") } else { FAILED.into() });
            let pid = chain.password_process();
            let encoded = authcheck::text::encode(password.as_bytes());
            for trace in [SECRET.as_bytes(), encoded.trim_end_matches('=').as_bytes()] {
                let text = trace.escape_ascii();
                assert!(!remembers(pid, trace), "{login} {mechanism} {wrong}: {text}");
            }
            chain.end();
        }
    }
}

const SECRET: &str = "tanstaaf-8321";

const KINDS: [&str; 5] = [
    "$1$saltsalt$aHXUsbOAUVPvaWiG4X.AH0",
    "$5$saltsalt$ZeDhE43hYaZ.NgJKFnBEFmQhMB4bB25djn58Dm82s1A",
    "$6$saltsalt$UP1rS95CBcU1LRotLI7QYqVTRilwl0I7Mu2u.VAyyV53P0Eo/J6QD1DAYbkgEV5NE6d7xbVz/A72fJOMJ0WKc0",
    "$2b$05$abcdefghijklmnopqrstuulKE7X1bjrc4r4x9R1RkjJt5wyqnXkae",
    "$y$j9T$7HiKXfr..EDAtVp/CExVC0$WOF5uoZI1ptgdp75Ac4FqTbl5ZhORue6T2JO0Oo04j2",
];

/// Whether the memory of a process holds these bytes.
fn remembers(pid: u32, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).is_ok()
            && bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// A checkpassword program in shell: what the password asks for.
const CHECKPASSWORD: &str = r#"#!/bin/bash
IFS= read -r -d '' login <&3
IFS= read -r -d '' password <&3
echo "program: $login, $(id -u), $1" >&2
case $password in
  crash) kill -SEGV $$ ;;
  hang) sleep 1000 & echo "sleeps: $!" >&2; wait ;;
  *) exit "$password" ;;
esac
"#;

fn script(folder: &Folder, text: &str) -> String {
    let path = folder.path("check");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_exit_codes_of_a_checkpassword_program() {
    let folder = Folder::new("codes-x");
    let command = format!("{} /bin/true", script(&folder, CHECKPASSWORD));
    for (password, reply) in [
        ("0", "235 u"),
        ("1", FAILED),
        ("3", FAILED),
        ("2", TEMPORARY),
        ("100", FAILED),
        ("101", TEMPORARY),
        ("111", TEMPORARY),
        ("127", TEMPORARY),
        ("crash", TEMPORARY),
    ] {
        let mut chain = Chain::start(&["-x", &command], &[ALLOWED]);
        assert_eq!(chain.ask("MECHS"), "MECHS PLAIN LOGIN");
        assert_eq!(chain.ask(&plain("u", password)), reply, "{password}");
        let (_, log) = chain.end();
        let uid = nix::unistd::getuid();
        assert!(log.contains(&format!("program: u, {uid}, /bin/true\n")), "{log}");
    }
    let mut chain = Chain::start(&["-x", "/nonexistent/check"], &[ALLOWED]);
    assert_eq!(chain.ask(&plain("u", "0")), TEMPORARY);
    assert!(chain.end().1.contains("could not be run"));
}

// Half of the time that a step may take, then all that it has started is ended.
#[test]
fn a_checkpassword_program_that_hangs_is_temporary() {
    let folder = Folder::new("hang-x");
    let mut chain = Chain::start(&["-x", &script(&folder, CHECKPASSWORD)], &[ALLOWED]);
    assert_eq!(chain.ask(&plain("u", "hang")), TEMPORARY);
    let (_, log) = chain.end();
    assert!(log.contains("the program hung"), "{log}");
    let sleeper = log.split_once("sleeps: ").unwrap().1.lines().next().unwrap();
    let gone = || !Path::new(&format!("/proc/{sleeper}")).exists();
    let end = Instant::now() + Duration::from_secs(20);
    while !gone() && Instant::now() < end {
        std::thread::yield_now();
    }
    assert!(gone());
}

// The interface says what a program may expect; nothing it does to its descriptors reaches the client or holds the answer up.
#[test]
fn checkpassword_programs_with_bad_manners() {
    let folder = Folder::new("manners-x");
    for (manner, code, reply) in [
        ("exec 3<&-", 0, "235 u"),
        ("exec 3<&-", 1, FAILED),
        ("exec 0<&- 1>&- 2>&- 3<&-", 0, "235 u"),
        ("echo 235 root; echo ENV RELAYCLIENT=; cat <&0", 1, FAILED),
        ("echo 'to the log' >&2", 0, "235 u"),
        // A child that it leaves behind keeps descriptor 3 open.
        ("sleep 1000 2>/dev/null & echo \"sleeps: $!\" >&2", 0, "235 u"),
        ("env >&2; ls -l /proc/self/fd >&2", 1, FAILED),
    ] {
        let path = script(&folder, &format!("#!/bin/sh\n{manner}\nexit {code}\n"));
        let env = [ALLOWED, ("AUTH_UID", "65531"), ("AUTH_GID", "65530")];
        let mut chain = Chain::start(&["-x", &path], &env);
        assert_eq!(chain.ask(&plain("u", "tanstaaf")), reply, "{manner}");
        assert_eq!(chain.ask("MECHS"), "MECHS PLAIN LOGIN", "{manner}");
        let (_, log) = chain.end();
        assert!(!log.contains("235 root") && !log.contains("tanstaaf"), "{manner}: {log}");
        assert_eq!(log.contains("to the log"), manner.contains("to the log"), "{log}");
        if let Some((_, pid)) = log.split_once("sleeps: ") {
            let pid = pid.lines().next().unwrap().parse().unwrap();
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        if manner.starts_with("env") {
            assert!(log.contains("TCPREMOTEIP=192.0.2.1"), "{log}");
            assert!(!log.contains("SASLFD") && !log.contains("AUTH_UID"), "{log}");
            assert!(!log.contains("socket:"), "{log}");
        }
    }
}

// Whoever is killed: no answer that a password was wrong, and none that it was right.
#[test]
fn a_kill_of_either_process_behind_x() {
    let folder = Folder::new("kill-x");
    let path = script(&folder, "#!/bin/sh\nexit 0\n");
    let until_it_ends = "cat <&0 >&$SASLFD & cat <&$SASLFD; echo end; wait";
    for (locked_in, pass_on, answer) in [("2", until_it_ends, "end"), ("0", PASS_ON, TEMPORARY)] {
        let mut chain = Chain::with(&["-x", &path], &[ALLOWED], &["bash", "-c", pass_on]);
        assert_eq!(chain.ask(&plain("u", "tanstaaf")), "235 u");
        let mut found = chain.children();
        found.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "authcheck\n"
                && status(*pid, "Seccomp") == locked_in
        });
        assert_eq!(found.len(), 1, "{found:?}");
        let pid = nix::unistd::Pid::from_raw(found[0].try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        // Whether the dead one is heard of before or after the question does not matter.
        assert_eq!(chain.ask(&plain("u", "tanstaaf")), answer);
        let (_, log) = chain.end();
        assert_eq!(log.contains("could not be run"), answer == TEMPORARY, "{log}");
    }
}

#[test]
fn the_command_is_split_at_blanks_without_a_shell() {
    let folder = Folder::new("blanks-x");
    let path = script(&folder, "#!/bin/sh\nfor word; do echo \"<$word>\" >&2; done\n");
    let command = format!("  {path}\ta  'b c'   $HOME;x ");
    let mut chain = Chain::start(&["-x", &command], &[ALLOWED]);
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), "235 u");
    let log = chain.end().1;
    assert!(log.contains("<a>\n<'b>\n<c'>\n<$HOME;x>\n"), "{log}");
}

// checkpassword's exit code is that of the program it becomes: accepted is only who got through both.
#[test]
fn the_program_behind_authcheck_behind_itself_has_the_last_word() {
    let folder = Folder::new("last-x");
    let users = folder.users(&record(&["u"], "tanstaaf"));
    for (code, reply) in [("0", "235 u"), ("1", FAILED), ("111", TEMPORARY)] {
        let last = script(&folder, &format!("#!/bin/sh\nexit {code}\n"));
        let authcheck = env!("CARGO_BIN_EXE_authcheck");
        let command = format!("{authcheck} {} {last}", users.display());
        let mut chain = Chain::start(&["-x", &command], &[ALLOWED]);
        assert_eq!(chain.ask(&plain("u", "tanstaaf")), reply);
        assert_eq!(chain.ask(&plain("u", "wrong")), FAILED);
        chain.end();
    }
    let missing = format!(
        "{} {} /bin/true",
        env!("CARGO_BIN_EXE_authcheck"),
        folder.path("missing.cdb").display()
    );
    let mut chain = Chain::start(&["-x", &missing], &[ALLOWED]);
    assert_eq!(chain.ask(&plain("u", "tanstaaf")), TEMPORARY);
    chain.end();
}

// authcheck.8 SASLFD: a client that was written from the page alone.
#[test]
fn the_page_tells_all_that_a_client_needs() {
    let folder = Folder::new("page");
    let fields = ["-c", "u,=@x.org", "env=DATABYTES=5", "env=PATH=/x", "env=AUTH_NOTE=a b"];
    let users = folder.users(&record(&fields, "tanstaaf"));
    let exporter = "0f".repeat(32);
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/saslfd.py");
    for env in [vec![ALLOWED], vec![("SSL", "1"), ("SSL_TLS_EXPORTER", &exporter)]] {
        let program = ["python3", client, "u,=@x.org", "tanstaaf"];
        let mut chain = Chain::with(&[users.to_str().unwrap()], &env, &program);
        let heard = chain.hear();
        let (code, log) = chain.end();
        assert_eq!((heard.as_str(), code), ("all as the page says", Some(0)), "{log}");
    }
}

#[test]
fn authcheck_behind_itself_with_both_orders_of_cram_md5() {
    let folder = Folder::new("self-x");
    let users = folder.users(&record(&["-c", "tim"], "tanstaaftanstaaf"));
    let check = |options: &str| {
        format!("{} {options} {} /bin/true", env!("CARGO_BIN_EXE_authcheck"), users.display())
    };
    for order in ["hoffmann", "dabrowski"] {
        let command = check(&format!("-o {order}"));
        let mut chain = Chain::start(&["-c", "-o", order, "-x", &command], &[ALLOWED]);
        assert_eq!(chain.ask("MECHS"), "MECHS PLAIN LOGIN CRAM-MD5");
        assert_eq!(chain.ask(&plain("tim", "tanstaaftanstaaf")), "235 tim");
        assert_eq!(chain.ask(&plain("tim", "x")), FAILED);
        let challenge = chain.ask("AUTH CRAM-MD5");
        let challenge = authcheck::text::decode(&challenge.as_bytes()[4..]).unwrap();
        let mut hmac =
            <hmac::Hmac<md5::Md5> as hmac::KeyInit>::new_from_slice(b"tanstaaftanstaaf").unwrap();
        hmac::Mac::update(&mut hmac, &challenge);
        let digest = authcheck::text::hex(&hmac::Mac::finalize(hmac).into_bytes());
        let answer = authcheck::text::encode(format!("tim {digest}").as_bytes());
        assert_eq!(chain.ask(&format!("LINE {answer}")), "235 tim");
        chain.end();
    }
}

#[test]
fn wrong_usage() {
    for arguments in [
        &["-s"][..],
        &["-s", "users.cdb"],
        &["-s", "-x", "", "true"],
        &["-s", "-x", "check"],
        &["-x", "check", "true"],
        &["-S", "users.cdb", "true"],
        &["-s", "-c", "users.cdb", "true"],
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_authcheck")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(100), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("usage: authcheck"), "{}", said(&output));
    }
    let folder = Folder::new("usage");
    let users = users(&folder);
    let output = Command::new(env!("CARGO_BIN_EXE_authcheck"))
        .arg("-s")
        .arg(users)
        .arg("/nonexistent/program")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(111), "{}", said(&output));
}
