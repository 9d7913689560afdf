//! `starttls-wrap --check` as an administrator runs it. DESIGN 5: "`--check` prints for every name: days left, key matches, chain complete,
//! modes and owners wrong; exit 0 or 1."

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use chain_tests::folder::{Folder, Key, NAME, ORDINARY};
use chain_tests::programs::{self, needs_root};
use chain_tests::server::bin;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A folder with a good pair, whose CA is the only root that is known.
fn place() -> Folder {
    let folder = Folder::new();
    folder.certificate("cert", Key::P256, &[NAME]);
    folder
}

/// What it says in this environment, with its exit code; `NAME=@FILE` stands for a path in the folder.
fn checked(folder: &Folder, options: &[&str], settings: &str) -> (String, Option<i32>) {
    ran(folder, &mut command(folder, options, settings))
}

fn command(folder: &Folder, options: &[&str], settings: &str) -> Command {
    let programs = match folder.path("bin").exists() {
        true => folder.path("bin"),
        false => bin(folder),
    };
    let mut command = Command::new(programs.join("starttls-wrap"));
    command.args(options).env_clear().env("SSL_CERT_FILE", folder.path("ca.pem"));
    for (name, value) in settings.split_whitespace().filter_map(|word| word.split_once('=')) {
        let value = value.strip_prefix('@').map_or(value.to_owned(), |file| folder.text(file));
        command.env(name, value);
    }
    command
}

fn ran(folder: &Folder, command: &mut Command) -> (String, Option<i32>) {
    let output = command.current_dir(folder.path("")).output().expect("starttls-wrap");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8(said).expect("text"), output.status.code())
}

/// The problems of this certificate alone, and of no other.
fn problems(folder: &Folder, settings: &str) -> Vec<String> {
    let (said, code) = checked(folder, &["--check"], settings);
    let found: Vec<String> = said
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("PROBLEM"))
        .map(|line| line.trim_start_matches([':', ' ']).to_owned())
        .collect();
    assert_eq!(code, Some(i32::from(!found.is_empty())), "{settings}: {said}");
    let last = match found.len() {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    assert_eq!(said.lines().last(), Some(&last[..]), "{said}");
    found
}

const PAIR: &str = "CERTFILE=@cert.pem KEYFILE=@cert.key";

/// Runs a shell command in the folder and gives its output.
fn shell(folder: &Folder, script: &str) -> String {
    let mut sh = Command::new("sh");
    let output = sh.args(["-euc", script]).current_dir(folder.path("")).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", output.stderr.escape_ascii());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_good_pair_is_no_problem() {
    let folder = place();
    let (said, code) = checked(&folder, &["--check"], PAIR);
    for line in [
        "names    mx.test".to_owned(),
        "chain    complete, 2 certificates".to_owned(),
        format!("key      ECDSA, matches, in {}", folder.text("cert.key")),
        "policy: TLS offered by STARTTLS; AUTH only inside TLS; mail without AUTH".to_owned(),
        "no problems".to_owned(),
    ] {
        assert!(said.lines().any(|found| found.trim_start() == line), "{line} in\n{said}");
    }
    assert!(said.contains(", 1 days left") || said.contains(", 2 days left"), "{said}");
    assert_eq!(code, Some(0), "{said}");
    // Both in one file; RSA; and what the policy says of other settings.
    shell(&folder, "umask 077; cat cert.pem cert.key >both.pem");
    assert_eq!(problems(&folder, "CERTFILE=@both.pem"), [""; 0]);
    folder.certificate("rsa", Key::Rsa, &[NAME]);
    let (said, code) = checked(&folder, &["--check"], "CERTFILE=@rsa.pem KEYFILE=@rsa.key SSL=1");
    assert!(said.contains("key      RSA, matches"), "{said}");
    assert!(said.contains("policy: TLS from the first byte;"), "{said}");
    assert_eq!(code, Some(0), "{said}");
}

// RFC 7671 5.1: usage 3, selector 1 and matching type 1: the SHA-256 of the public key, as openssl computes it.
#[test]
fn tlsa_records_are_what_openssl_computes() {
    let folder = place();
    folder.certificate("names", Key::Rsa, &["a.test", "*.b.test", "192.0.2.1"]);
    for (file, owners) in [("cert", &["mx.test"][..]), ("names", &["a.test", "HOST.b.test"])] {
        let digest = shell(
            &folder,
            &format!(
                "openssl x509 -in {file}.pem -noout -pubkey | openssl pkey -pubin -outform DER |
                 openssl dgst -sha256 -r | cut -d ' ' -f 1"
            ),
        );
        let settings = format!("CERTFILE=@{file}.pem KEYFILE=@{file}.key");
        let (said, _) = checked(&folder, &["--check"], &settings);
        let records: Vec<&str> =
            said.lines().filter_map(|line| line.trim_start().strip_prefix("tlsa     ")).collect();
        let expected: Vec<String> = owners
            .iter()
            .map(|owner| format!("_25._tcp.{owner}. IN TLSA 3 1 1 {}", digest.trim()))
            .collect();
        assert_eq!(records, expected, "{said}");
    }
}

#[test]
fn certificates_out_of_their_time() {
    let folder = place();
    let settings = "CERTFILE=@dated.pem KEYFILE=@dated.key";
    for (from, to, expected) in [
        ("90 days ago", "1 day ago", Some("expired on ")),
        ("2 days", "90 days", Some("not valid yet")),
        ("77 days ago", "12 days 12 hours", Some("expires in 12 days: was it not renewed?")),
        ("75 days ago", "15 days", None),
        // Short-lived ones are renewed late.
        ("3 days ago", "3 days", None),
        ("5 days ago", "12 hours", Some("expires in 0 days: was it not renewed?")),
    ] {
        folder.dated(from, to);
        let found = problems(&folder, settings);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{from} to {to}: {found:?}");
        let told = expected.is_none_or(|words| found[0].starts_with(words));
        assert!(told, "{from} to {to}: {found:?}");
    }
}

#[test]
fn pairs_that_cannot_serve() {
    let folder = place();
    folder.certificate("other", Key::P256, &[NAME]);
    folder.write("empty", "");
    mkfifo(&folder.path("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
    shell(&folder, "umask 077; openssl pkey -aes256 -passout pass:x -in cert.key -out locked.key");
    shell(&folder, "sed '/END/q' cert.pem >leaf.pem; cat ca.pem leaf.pem >turned.pem");
    shell(
        &folder,
        "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj '/CN=another CA' -keyout foreign.key -out foreign.pem",
    );
    let path = |name: &str| folder.text(name);
    for (settings, expected) in [
        ("CERTFILE=@cert.pem KEYFILE=@other.key", "key and certificate: "),
        ("CERTFILE=@cert.pem KEYFILE=@locked.key", "the key file is encrypted"),
        ("CERTFILE=@cert.pem KEYFILE=@empty", "the key file: "),
        ("CERTFILE=@cert.pem", "the key file: "),
        ("CERTFILE=@leaf.pem KEYFILE=@cert.key SSL_CERT_FILE=@foreign.pem", "chain incomplete: "),
        ("CERTFILE=@turned.pem KEYFILE=@ca.key", "chain incomplete: "),
        (
            "CERTFILE=@missing KEYFILE=@cert.key",
            &format!("unable to open {}: No such file", path("missing")),
        ),
        (
            "CERTFILE=@cert.pem KEYFILE=@missing",
            &format!("unable to open {}: No such file", path("missing")),
        ),
        // What never ends and what never begins.
        ("CERTFILE=/dev/zero KEYFILE=@cert.key", "the certificate file is too large"),
        ("CERTFILE=@pipe KEYFILE=@cert.key", "the certificate file: no certificate"),
        ("CERTFILE=@cert.pem KEYFILE=@pipe", "the key file: "),
        ("CERTFILE=@control KEYFILE=@cert.key", "unable to read the certificate file: Is a dir"),
        ("", "CERTFILE is not set"),
        ("KEYFILE=@cert.key", "CERTFILE is not set"),
        ("CERTFILE=@cert.pem KEYFILE=@cert.key CERTDIR=@missing", "unable to read "),
    ] {
        let found = problems(&folder, settings);
        assert!(found.iter().any(|found| found.starts_with(expected)), "{settings}: {found:?}");
    }
    assert_eq!(problems(&folder, "CERTFILE=@leaf.pem KEYFILE=@cert.key"), [""; 0]);
    // Without TLS nothing is needed.
    assert_eq!(problems(&folder, "DENY_TLS=1"), [""; 0]);
    let (said, _) = checked(&folder, &["--check"], "DENY_TLS=1");
    assert!(said.contains("policy: no TLS; no AUTH, which needs TLS; mail without AUTH"), "{said}");
}

#[test]
fn modes_and_owners() {
    let folder = place();
    let key = folder.path("cert.key");
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for (bits, good) in
        [(0o400, true), (0o600, true), (0o640, true), (0o644, false), (0o660, false)]
    {
        mode(&key, bits);
        let found = problems(&folder, PAIR);
        let expected = format!("the key has mode {bits:04o}, 0640 is the most it needs");
        let expected: &[String] = if good { &[] } else { &[expected] };
        assert_eq!(found, expected);
    }
    mode(&key, 0o600);
    // Whoever may rename files in a folder may put his own key there, also behind certbot's links.
    fs::create_dir(folder.path("open")).unwrap();
    fs::create_dir(folder.path("open/shut")).unwrap();
    fs::rename(&key, folder.path("open/shut/cert.key")).unwrap();
    symlink("open/shut/cert.key", &key).unwrap();
    assert_eq!(problems(&folder, PAIR), [""; 0]);
    mode(&folder.path("open"), 0o777);
    let open = format!("anybody can replace what lies in {}", folder.text("open"));
    assert_eq!(problems(&folder, PAIR), [open]);
    mode(&folder.path("open"), 0o1777);
    assert_eq!(problems(&folder, PAIR), [""; 0]);
    if !needs_root() {
        return;
    }
    chown(&key, Some(12345), None).unwrap();
    assert_eq!(problems(&folder, PAIR), ["the key belongs to uid 12345"]);
    chown(&key, Some(0), Some(0)).unwrap();
    let mut ordinary = command(&folder, &["--check"], PAIR);
    let (said, code) = ran(&folder, ordinary.uid(ORDINARY).gid(ORDINARY));
    assert!(
        said.contains("PROBLEM  unable to open ") && said.contains("Permission denied"),
        "{said}"
    );
    assert_eq!(code, Some(1), "{said}");
}

// "prints for every name": each layout, several per name, and names by which nobody finds the certificate.
#[test]
fn every_certificate_of_certdir() {
    let folder = place();
    folder.issue("a.test", Key::P256, "a.test/fullchain.pem", "a.test/privkey.pem");
    folder.issue("*.b.test", Key::P256, "b.test/fullchain.pem", "b.test/privkey.pem");
    folder.issue("c.test", Key::P256, "c.test_ecc/fullchain.cer", "c.test_ecc/c.test.key");
    folder.issue("c.test", Key::Rsa, "c.test/fullchain.cer", "c.test/c.test.key");
    folder.issue("d.test", Key::P256, "d.test.crt", "d.test.key");
    folder.issue("*.e.test", Key::P256, "_.e.test.crt", "_.e.test.key");
    folder.write("certs/d.test.issuer.crt", "");
    folder.write("certs/README", "");
    let settings = format!("{PAIR} CERTDIR=@certs");
    let (said, code) = checked(&folder, &["--check"], &settings);
    for name in ["mx.test", "a.test", "*.b.test", "d.test", "*.e.test"] {
        assert_eq!(said.matches(&format!("  names    {name}\n")).count(), 1, "{name}: {said}");
    }
    assert_eq!(said.matches("  names    c.test\n").count(), 2, "{said}");
    assert_eq!((said.matches("  key      ").count(), code), (7, Some(0)), "{said}");
    folder.certificate("many", Key::P256, &["f.test", "mx.f.test", "elsewhere.test", NAME]);
    fs::create_dir(folder.path("certs/f.test")).unwrap();
    for (from, to) in [("many.pem", "fullchain.pem"), ("many.key", "privkey.pem")] {
        fs::rename(folder.path(from), folder.path("certs/f.test").join(to)).unwrap();
    }
    let hidden =
        "a client that asks for elsewhere.test is not shown it: it lies under another name";
    assert_eq!(problems(&folder, &settings), [hidden]);
    // The rest is looked at also where there is no default pair.
    let without = problems(&folder, "CERTDIR=@certs");
    assert!(without.contains(&"CERTFILE is not set".to_owned()), "{without:?}");
    assert!(without.contains(&hidden.to_owned()), "{without:?}");
    fs::remove_file(folder.path("certs/d.test.key")).unwrap();
    let missing = problems(&folder, &settings);
    assert!(missing.iter().any(|found| found.contains("d.test.key: No such file")), "{missing:?}");
}

// Settings that a session would refuse with 421 are problems too, and named as there; wrong usage is 100.
#[test]
fn settings_that_a_session_would_refuse() {
    let folder = place();
    for (settings, expected) in [
        ("FORCE_TLS=1 DENY_TLS=1", "FORCE_TLS contradicts DENY_TLS"),
        ("SSL=1 DENY_TLS=1", "SSL contradicts DENY_TLS"),
        ("REQUIRE_AUTH=1 AUTH=0", "REQUIRE_AUTH contradicts AUTH"),
        ("REQUIRE_AUTH=1 DENY_TLS=1", "REQUIRE_AUTH contradicts DENY_TLS"),
        ("SSL=1 SSL_PROTOCOL=TLSv1.3", "SSL contradicts SSL_PROTOCOL"),
        ("TLS_UID=nobody TLS_GID=7", "TLS_UID"),
        ("KEY_GID=7", "KEY_UID is not set"),
    ] {
        let found = problems(&folder, &format!("{PAIR} {settings}"));
        assert_eq!(found.len(), 1, "{settings}: {found:?}");
        assert!(found[0].contains(expected), "{settings}: {found:?}");
    }
    for options in [&["--json"][..], &["--check", "-Z"], &["--check", "--jason"]] {
        let (said, code) = checked(&folder, options, PAIR);
        assert!(said.contains("usage: starttls-wrap "), "{options:?}: {said}");
        assert_eq!(code, Some(100), "{options:?}: {said}");
    }
}

/// What python3 makes of one JSON text: the value of an expression in `report`.
fn python(json: &str, expression: &str) -> String {
    let program = format!("import json, sys\nreport = json.load(sys.stdin)\nprint({expression})");
    let mut python = Command::new("python3");
    let python = python.args(["-c", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("python3");
    child.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{json}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

// "`--json`": one object (RFC 8259), with the same exit codes.
#[test]
fn the_same_as_json() {
    if !programs::debian("python3", "python3") {
        return;
    }
    let folder = place();
    let (json, code) = checked(&folder, &["--check", "--json"], PAIR);
    assert_eq!((json.lines().count(), code), (1, Some(0)), "{json}");
    let tool = "import json.tool, sys; sys.argv = ['json.tool']; json.tool.main()";
    shell(&folder, &format!("cat >json <<'END'\n{json}END\npython3 -c \"{tool}\" <json"));
    for (expression, expected) in [
        ("report['problems']", "0"),
        ("len(report['certificates'])", "1"),
        ("report['policy'].split(';')[0]", "TLS offered by STARTTLS"),
        ("report['certificates'][0]['names']", "['mx.test']"),
        ("report['certificates'][0]['key_matches']", "True"),
        ("report['certificates'][0]['algorithm']", "ECDSA"),
        ("report['certificates'][0]['days_left'] in (1, 2)", "True"),
        ("report['certificates'][0]['chain']", "complete, 2 certificates"),
        ("report['certificates'][0]['tlsa'][0][:31]", "_25._tcp.mx.test. IN TLSA 3 1 1"),
        ("report['certificates'][0]['problems']", "[]"),
    ] {
        assert_eq!(python(&json, expression), expected, "{expression}: {json}");
    }
    // A path that needs every escape there is.
    fs::copy(folder.path("cert.key"), folder.path("odd\"\\\n\u{1}é")).unwrap();
    let mut odd =
        command(&folder, &["--check", "--json"], "CERTFILE=@cert.pem FORCE_TLS=1 DENY_TLS=1");
    let (json, code) = ran(&folder, odd.env("KEYFILE", folder.path("odd\"\\\n\u{1}é")));
    assert_eq!(code, Some(1), "{json}");
    for (expression, expected) in [
        ("report['contradiction']", "['FORCE_TLS', 'DENY_TLS']"),
        ("report['problems']", "1"),
        ("report['certificates'][0]['key'].endswith('/odd\"\\\\\\n\\x01é')", "True"),
    ] {
        assert_eq!(python(&json, expression), expected, "{expression}: {json}");
    }
    let (json, code) = checked(&folder, &["--check", "--json"], "");
    assert_eq!(code, Some(1), "{json}");
    assert_eq!(python(&json, "report['certificates'][0]['problems']"), "['CERTFILE is not set']");
}
