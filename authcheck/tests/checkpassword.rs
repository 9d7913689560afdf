//! authpass, authcdb and authcheck on descriptor 3, as qmail-popup and patched servers use them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{Folder, authpass, compile, fed, no_databases, record, root, said};

/// openssl passwd -6 -salt salt tanstaaf
const HASH: &str = "$6$salt$l271/oYV2tpo8BxsgiVsoA3s9GKIAZD4Oy7tzbmkv3xQnNg4HYmZ1Uv6VH6c7IcVZVGmYoY5K.XMK7C7yIU831";

/// What qmail-popup does: the request on descriptor 3, then authcheck.
fn check(arguments: &[&str], users: &Path, request: &[u8]) -> Output {
    check_with(arguments, users, request, "exec 3<&0 </dev/null; exec \"$@\"", "env")
}

fn check_with(
    arguments: &[&str],
    users: &Path,
    request: &[u8],
    script: &str,
    program: &str,
) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_authcheck")]);
    command.args(arguments).arg(users).args(["sh", "-c", program]);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TCPREMOTEIP", "192.0.2.1");
    fed(&mut command, request)
}

#[test]
fn the_program_runs_with_what_the_record_says() {
    let folder = Folder::new("runs");
    let home = folder.0.to_str().unwrap();
    let fields = ["u@x.org", "env=DATABYTES=1000", "env=RELAYCLIENT=", "shell=/bin/false"];
    let line = record(&[&fields[..], &[&format!("home={home}")]].concat(), "tanstaaf");
    let users = folder.users(&line);
    let output = check(&[], &users, b"u@X.org\0tanstaaf\0timestamp\0");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for variable in ["USER=u@X.org", "DATABYTES=1000", "RELAYCLIENT=", "SHELL=/bin/false"] {
        assert!(text.lines().any(|line| line == variable), "{variable} in {text}");
    }
    assert!(text.contains(&format!("HOME={home}\n")) && text.contains(&format!("PWD={home}\n")));
    assert!(text.contains(": AUTH successful [192.0.2.1] u@X.org mech=checkpassword tls=none"));
    assert!(!text.contains("tanstaaf"), "{text}");
}

// https://cr.yp.to/checkpwd/interface.html: 1 unacceptable, 2 misused, 111 temporary; otherwise the program's own code.
#[test]
fn exit_codes() {
    let folder = Folder::new("codes");
    let users = folder.users(&record(&["u"], "tanstaaf"));
    let missing = folder.path("missing.cdb");
    let right = b"u\0tanstaaf\0\0";
    for (users, request, code) in [
        (&users, &right[..], 0),
        (&users, b"u\0tanstaaf\0", 0),
        (&users, b"u\0tanstaag\0\0", 1),
        (&users, b"v\0tanstaaf\0\0", 1),
        (&users, b"\0\0\0", 1),
        (&users, b"u\0tanstaaf", 2),
        (&users, b"", 2),
        (&users, &[&b"u\0"[..], &[b'x'; 12_300], b"\0\0"].concat(), 2),
        (&missing, right, 111),
    ] {
        let output = check(&[], users, request);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{}: {}",
            request.escape_ascii(),
            said(&output)
        );
    }
    let own = check_with(&[], &users, right, "exec 3<&0; exec \"$@\"", "exit 7");
    assert_eq!(own.status.code(), Some(7));
    let closed = check_with(&[], &users, right, "exec 3<&-; exec \"$@\"", "exit 7");
    assert_eq!(closed.status.code(), Some(2));
    for arguments in [&[][..], &["-z"], &["users.cdb"], &["-o", "x", "users.cdb", "true"]] {
        let status =
            Command::new(env!("CARGO_BIN_EXE_authcheck")).args(arguments).output().unwrap();
        assert_eq!(status.status.code(), Some(100), "{arguments:?}");
        assert!(said(&status).contains("usage: authcheck"), "{}", said(&status));
    }
}

#[test]
fn a_damaged_database_is_temporary_and_says_so() {
    let folder = Folder::new("damaged");
    let users = folder.users(&record(&["u"], "tanstaaf"));
    let whole = fs::read(&users).unwrap();
    for at in [0, 7, 2048, 2060, 2100, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&users, &damaged).unwrap();
        for request in [&b"u\0tanstaaf\0\0"[..], b"u\0x\0\0", b"v\0x\0\0"] {
            let output = check(&[], &users, request);
            assert_eq!(output.status.code(), Some(111), "byte {at}: {}", said(&output));
            assert!(said(&output).contains("AUTH unavailable [192.0.2.1] - "), "{}", said(&output));
        }
    }
}

// Never a success, never a wrong password, and no waiting for the other end of a FIFO.
#[test]
fn what_is_no_database_is_temporary() {
    let folder = Folder::new("odd");
    for users in no_databases(&folder) {
        let output = check(&[], &users, b"u\0tanstaaf\0\0");
        let text = said(&output);
        assert_eq!(output.status.code(), Some(111), "{}: {text}", users.display());
        assert!(text.contains("AUTH unavailable [192.0.2.1] - mech=checkpassword"), "{text}");
        assert!(text.contains(users.to_str().unwrap()), "{text}");
    }
    if root() {
        let users = folder.users(&record(&["u"], "tanstaaf"));
        let script = "exec 3<&0 </dev/null; exec setpriv --reuid 65534 --clear-groups \"$@\"";
        let output = check_with(&[], &users, b"u\0tanstaaf\0\0", script, "exit 0");
        assert_eq!(output.status.code(), Some(111), "{}", said(&output));
        assert!(said(&output).contains("Permission denied"), "{}", said(&output));
    }
}

// The sum is read in pieces, so a database may be larger than what softlimit(8) leaves.
#[test]
fn a_database_larger_than_the_memory_limit() {
    let folder = Folder::new("large");
    let filler = format!("\tenv=A={}", "x".repeat(15_000));
    let md5 = "pw=$1$/alf.QlS$eTgQyOf74eEtm5ZG7jzH40";
    let lines: Vec<_> = (0..2_500).map(|n| format!("u{n}\t{md5}{filler}\n")).collect();
    let users = folder.users(&lines.concat());
    assert!(fs::metadata(&users).unwrap().len() > 37_000_000);
    let script = "ulimit -v 30000; exec 3<&0 </dev/null; exec \"$@\"";
    for (request, code) in [
        (&b"u7\0secret\0\0"[..], 0),
        (b"u2499\0secret\0\0", 0),
        (b"u7\0x\0\0", 1),
        (b"v\0x\0\0", 1),
    ] {
        let output = check_with(&[], &users, request, script, "exit 0");
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
    }
}

// A hash that would take the machine's memory, or a day, is not computed; nor is it a wrong password.
#[test]
fn a_hash_of_absurd_cost_is_temporary() {
    let folder = Folder::new("cost");
    let users = folder.path("auth.cdb");
    let sha = "x".repeat(86);
    let hashes = [
        "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$YWJjZGVmZ2hpamtsbW5vcA".to_owned(),
        format!("$6$rounds=999999999$salt${sha}"),
        "$y$jUT$iYafu3j0yaWH50/DxK7DH/$g2mq6HyMcj/gpA3X9O7pBbuZ.rg4GxxtGdYuEac3W78".to_owned(),
        "$2y$31$Lq7ymECVPRFX5a5Dd3/XQO1DF2M9eRpDFI.4kSYEUbNUE.O5.ydB6".to_owned(),
    ];
    for hash in hashes {
        let input = format!("+1,{}:u->{hash}\n\n", hash.len());
        let mut cdb = Command::new("cdb");
        assert!(fed(cdb.arg("-c").arg(&users), input.as_bytes()).status.success());
        for (login, code) in [("u", 111), ("nobody", 1)] {
            let output = check(&[], &users, format!("{login}\0tanstaaf\0\0").as_bytes());
            assert_eq!(output.status.code(), Some(code), "{hash}: {}", said(&output));
        }
        let text = folder.path("text");
        fs::write(&text, format!("# one\nu\t{hash}\n")).unwrap();
        let output = compile(&text, &folder.path("new.cdb"));
        assert_eq!(output.status.code(), Some(100), "{hash}");
        let why = "line 2: this hash takes more memory or time than is granted";
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}

// "unknown logins are never logged": people type passwords where logins belong.
#[test]
fn a_login_that_does_not_exist_is_not_logged_however_long_its_password() {
    let folder = Folder::new("unlogged");
    let users = folder.users(&record(&["u"], "tanstaaf"));
    for length in [1, 1_024, 1_025, 12_000] {
        let request = format!("hunter2\0{}\0\0", "x".repeat(length));
        let output = check(&[], &users, request.as_bytes());
        assert_eq!(output.status.code(), Some(1));
        let text = said(&output);
        assert!(text.contains("AUTH failed [192.0.2.1] - ") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn cram_md5_only_for_a_record_that_has_a_context() {
    let folder = Folder::new("cram");
    // RFC 2195 2, and a user whose password is 32 hex digits.
    let digest = "b913a602c7eda7a495b4e6e7334d3890";
    let tim = record(&["-c", "tim"], "tanstaaftanstaaf");
    let users = folder.users(&[tim, record(&["tom"], digest)].concat());
    let challenge = "<1896.697170952@postoffice.reston.mci.net>";
    for (order, login, fields, code) in [
        ("", "tim", [digest, challenge], 0),
        ("", "tim", [challenge, digest], 0),
        ("hoffmann", "tim", [digest, challenge], 0),
        ("hoffmann", "tim", [challenge, digest], 1),
        ("dabrowski", "tim", [challenge, digest], 0),
        ("dabrowski", "tim", [digest, challenge], 1),
        ("plain", "tim", [digest, challenge], 1),
        ("plain", "tim", ["tanstaaftanstaaf", challenge], 0),
        ("", "tim", [digest, "<1896.697170953@postoffice.reston.mci.net>"], 1),
        ("", "tom", [digest, challenge], 0),
        ("hoffmann", "tom", [digest, challenge], 1),
    ] {
        let options = if order.is_empty() { vec![] } else { vec!["-o", order] };
        let request = format!("{login}\0{}\0{}\0", fields[0], fields[1]);
        let output = check(&options, &users, request.as_bytes());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{order} {login} {fields:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn disabled_and_expired_accounts_are_refused_like_wrong_passwords() {
    let folder = Folder::new("refused");
    let lines: Vec<_> =
        [("d", "disabled=1"), ("e", "expires=1763640000"), ("l", "expires=99999999999")]
            .iter()
            .map(|(login, field)| record(&[login, field], "tanstaaf"))
            .collect();
    let cdb =
        format!("j\t{HASH},DATABYTES=\"5\"\nk\t{HASH},PASSWORD_EXPIRES=\"1763640000\",X=\"1\"\n");
    let users = folder.users(&format!("# comment\n\n{}{cdb}", lines.concat()));
    for (login, code, reason) in [
        ("d", 1, "reason=disabled"),
        ("e", 1, "reason=expired"),
        ("l", 0, "AUTH successful"),
        ("j", 0, "DATABYTES=5"),
        ("k", 1, "reason=expired"),
    ] {
        let output = check(&[], &users, format!("{login}\0tanstaaf\0\0").as_bytes());
        assert_eq!(output.status.code(), Some(code), "{login}: {}", said(&output));
        assert!(said(&output).contains(reason), "{login}: {}", said(&output));
    }
}

#[test]
fn an_auth_cdb_file_is_read_as_it_is() {
    let folder = Folder::new("foreign");
    let users = folder.path("auth.cdb");
    let value = format!("{HASH},DATABYTES=\"5\"");
    let input = format!("+6,{}:User@X->{value}\n\n", value.len());
    let mut cdb = Command::new("cdb");
    assert!(fed(cdb.arg("-c").arg(&users), input.as_bytes()).status.success());
    for (request, code) in
        [(&b"User@X\0tanstaaf\0\0"[..], 0), (b"User@X\0x\0\0", 1), (b"user@x\0tanstaaf\0\0", 1)]
    {
        assert_eq!(check(&[], &users, request).status.code(), Some(code));
    }
}

#[test]
fn a_stored_hash_is_no_password() {
    let folder = Folder::new("hash");
    let line = record(&["-c", "u"], "tanstaaf");
    let users = folder.users(&line);
    for field in line.trim_end().split('\t').skip(1) {
        for password in [field, field.split_once('=').unwrap().1] {
            let output = check(&[], &users, format!("u\0{password}\0\0").as_bytes());
            assert_eq!(output.status.code(), Some(1), "{password}: {}", said(&output));
        }
    }
}

// As checkpassword does for qmail-pop3d: group, user, then the home.
#[test]
fn the_program_runs_as_the_user_of_the_record() {
    if !root() {
        return;
    }
    let folder = Folder::new("uid");
    let user = record(&["u", "uid=65533", "gid=65532", "home=/"], "tanstaaf");
    let private = folder.path("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let lost = record(
        &["v", "uid=65533", "gid=65532", &format!("home={}", private.display())],
        "tanstaaf",
    );
    let users = folder.users(&[user, lost].concat());
    let run = |request| {
        let script = "exec 3<&0 </dev/null; exec \"$@\"";
        check_with(&[], &users, request, script, "id -u; id -g; id -G; pwd")
    };
    let output = run(b"u\0tanstaaf\0\0");
    assert_eq!(output.stdout, b"65533\n65532\n65532\n/\n", "{}", said(&output));
    let output = run(b"v\0tanstaaf\0\0");
    assert_eq!(output.status.code(), Some(111), "{}", said(&output));
    assert!(output.stdout.is_empty());
}

// A softlimit that is too small says nothing about the password.
#[test]
fn too_little_memory_is_temporary() {
    let folder = Folder::new("memory");
    let yescrypt = "y\t$y$j9T$7HiKXfr..EDAtVp/CExVC0$LL7Ivcx6lxC34xxRq8Iwy6MU7JTOp78eDTIfi/DVL74\n";
    let users = folder.users(&[&record(&["u"], "tanstaaf"), yescrypt].concat());
    for login in ["u", "y"] {
        for (limit, code) in [("17000", 111), ("80000", 0)] {
            let script = format!("ulimit -v {limit}; exec 3<&0 </dev/null; exec \"$@\"");
            let request = format!("{login}\0tanstaaf\0\0");
            let output = check_with(&[], &users, request.as_bytes(), &script, "exit 0");
            assert_eq!(output.status.code(), Some(code), "{login} {limit}: {}", said(&output));
        }
    }
}

#[test]
fn authpass_takes_two_equal_lines_and_no_secret_as_argument() {
    for (arguments, input, why) in [
        (&["u"][..], "tanstaaf\ntanstaag\n", "the passwords differ"),
        (&["u"], "tanstaaf\n", "the password is empty"),
        (&["u"], "\n\n", "the password is empty"),
        (&["u"], "tan\x03staaf\ntan\x03staaf\n", "control character"),
        (&[], "", "no login"),
        (&["a\nb"], "", "not a login"),
        (&["u", "pw=x"], "", "no secrets on the command line"),
        (&["u", "x=y"], "", "bad record: x"),
        (&["-z", "u"], "", "usage: authpass"),
    ] {
        let output = authpass(arguments, input);
        assert_eq!(output.status.code(), Some(100), "{arguments:?}");
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
        assert!(!said(&output).contains("tanstaa"));
    }
    let long = "x".repeat(1025);
    let output = authpass(&["u"], &format!("{long}\n{long}\n"));
    assert_eq!(output.status.code(), Some(100), "{}", said(&output));
    let plain = authpass(&["U@X.Org", "expires=5"], "tanstaaf\ntanstaaf\n");
    let line = said(&plain);
    assert!(line.starts_with("U@x.org\tpw=$argon2id$v=19$m=19456,t=2,p=1$"), "{line}");
    assert!(line.contains("\tscram-sha-256=100000,") && line.ends_with("\texpires=5\n"), "{line}");
    assert!(!line.contains("cram-md5"), "{line}");
    let cram = authpass(&["-c", "u"], "tanstaaf\ntanstaaf\n");
    assert!(String::from_utf8_lossy(&cram.stderr).contains("warning: "));
    assert_eq!(
        cram.stdout.split(|byte| *byte == b'\t').filter(|f| f.starts_with(b"cram-md5=")).count(),
        1
    );
}

// A terminal shows no password, and shows what is typed again afterwards, however it ends.
#[test]
fn authpass_on_a_terminal() {
    let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terminal.py");
    for (typed, code, said_then) in [
        ("tanstaaf\\ntanstaaf\\n", "0", "u\tpw=$argon2id$"),
        ("tanstaaf\\ntanstaag\\n", "100", "the passwords differ"),
        ("tan\\x03\\n", "100", "control character"),
        ("\\x04", "100", "the password is empty"),
    ] {
        let authpass = env!("CARGO_BIN_EXE_authpass");
        let output = fed(Command::new("python3").args([terminal, typed, authpass, "u"]), b"");
        let text = said(&output);
        assert!(output.status.success(), "{typed}: {text}");
        assert!(text.contains("Password: ") && text.contains(said_then), "{typed}: {text}");
        assert!(!text.contains("tanstaa") && !text.contains("tan\x03"), "{typed}: {text}");
        assert!(text.ends_with(&format!("exit={code} echo=True signals=True\n")), "{text}");
    }
}

#[test]
fn authcdb_names_the_line_that_is_wrong_and_leaves_the_old_file() {
    let folder = Folder::new("authcdb");
    let good = record(&["u"], "tanstaaf");
    let users = folder.users(&good);
    let before = fs::read(&users).unwrap();
    let text = folder.path("bad");
    for (line, why) in [
        ("nothing", "no tab"),
        ("v\t", "field without ="),
        ("v\tx=1", "bad record: x"),
        ("v\texpires=5", "no password"),
        ("v\tpw=secret", "not supported"),
        ("v\t$1$salt$hash", "not supported"),
        ("v\t$6$salt$cut", "not supported"),
        (&format!("v\tpw={HASH}\tuid=5"), "uid and gid"),
        (&format!("\tpw={HASH}"), "not a login"),
        (&format!("u\tpw={HASH}"), "there before"),
        ("v\tpw=\u{1b}", "bad record: pw"),
    ] {
        fs::write(&text, format!("{good}{line}\n")).unwrap();
        let output = compile(&text, &users);
        assert_eq!(output.status.code(), Some(100), "{line}");
        assert!(said(&output).contains("line 2: "), "{}", said(&output));
        assert!(said(&output).contains(why), "{why}: {}", said(&output));
        assert_eq!(fs::read(&users).unwrap(), before);
    }
    let output = compile(&folder.path("missing"), &users);
    assert_eq!(output.status.code(), Some(111));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "something was left behind");
}

#[test]
fn a_replaced_file_keeps_its_secret_and_its_mode() {
    let folder = Folder::new("kept");
    let secret = |users: &Path| {
        let bytes = fs::read(users).unwrap();
        let at = bytes.windows(8).position(|window| window == b"\nsecret=").unwrap();
        bytes[at..at + 72].to_vec()
    };
    let users = folder.users(&record(&["u"], "tanstaaf"));
    assert_eq!(fs::metadata(&users).unwrap().permissions().mode() & 0o777, 0o600);
    let first = secret(&users);
    fs::set_permissions(&users, fs::Permissions::from_mode(0o640)).unwrap();
    folder.users(&record(&["v"], "tanstaaf"));
    assert_eq!(secret(&users), first);
    assert_eq!(fs::metadata(&users).unwrap().permissions().mode() & 0o777, 0o640);
    fs::remove_file(&users).unwrap();
    folder.users(&record(&["v"], "tanstaaf"));
    assert_ne!(secret(&users), first);
}

// Whatever becomes of the disk, readers have the old file whole.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = Folder::new("full");
    let users = folder.users(&record(&["u"], "tanstaaf"));
    let before = fs::read(&users).unwrap();
    let text = folder.path("users");
    let authcdb = env!("CARGO_BIN_EXE_authcdb");
    // Blocks of 512 bytes: less than the header, less than the file, none.
    for (limit, trap) in [("2", ""), ("4", "trap '' XFSZ; "), ("0", "trap '' XFSZ; ")] {
        let script = format!("{trap}ulimit -f {limit}; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", authcdb]).args([&text, &users]);
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{limit}: {}", said(&output));
        assert_eq!(fs::read(&users).unwrap(), before, "{limit}");
        if !trap.is_empty() {
            assert_eq!(output.status.code(), Some(111), "{limit}: {}", said(&output));
            assert!(said(&output).contains("File too large"), "{}", said(&output));
        }
    }
}

// The later rename wins, whole; nothing of either is left behind.
#[test]
fn two_that_write_at_once() {
    let folder = Folder::new("twice");
    let (users, one, two) = (folder.path("users.cdb"), folder.path("one"), folder.path("two"));
    fs::write(&one, record(&["one"], "tanstaaf")).unwrap();
    fs::write(&two, record(&["two"], "tanstaaf")).unwrap();
    assert!(compile(&one, &users).status.success());
    let [first, second] = [&one, &two].map(|text| {
        let path = folder.path("alone.cdb");
        fs::copy(&users, &path).unwrap();
        assert!(compile(text, &path).status.success());
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        bytes
    });
    for _ in 0..20 {
        let both = [&one, &two].map(|text| {
            Command::new(env!("CARGO_BIN_EXE_authcdb")).args([text, &users]).spawn().unwrap()
        });
        for mut child in both {
            assert!(child.wait().unwrap().success());
            let found = fs::read(&users).unwrap();
            assert!(found == first || found == second);
        }
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "something was left behind");
}
