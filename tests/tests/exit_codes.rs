//! What starttls-wrap's exit code says, however it was started and however its session ended.

use std::net::Shutdown;
use std::process::Command;

use chain_tests::Client;
use chain_tests::programs::{debian, needs_root};
use chain_tests::server::Builder;
use chain_tests::{Server, folder::Folder};

/// Ends with 7 after QUIT, with 3 at the end of what it reads.
const SEVEN: &str = "#!/bin/sh
printf '220 seven\\r\\n'
while read -r line; do
  case $line in
    QUIT*) printf '221 bye\\r\\n'; exit 7 ;;
    KILL*) kill -9 $$ ;;
    *) printf '250 ok\\r\\n' ;;
  esac
done
exit 3
";

fn chain(words: &str) -> Builder {
    let server = Server::new(words);
    server.folder.script("seven", SEVEN);
    server.folder.script("closed", "#!/bin/sh\nexec \"$@\" <&- >&-\n");
    server
}

/// Plays a client's part and gives the exit code and the log.
fn code(chain: Builder, play: impl FnOnce(&mut Client)) -> (Option<i32>, String) {
    let mut single = chain.single();
    play(&mut single.client);
    // Whoever is gone is not waited for.
    single.client.stream().shutdown(Shutdown::Both).ok();
    let code = single.code();
    (code, single.log())
}

fn quit(client: &mut Client) {
    client.play("S: 220 *\nC: QUIT\nS: 221 *\n-- end");
}

fn quit_in_tls(client: &mut Client) {
    client.play("S: 220 *\nC: EHLO x\nS: 250-*\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 *\n-- TLS");
    client.play("C: QUIT\nS: 221 *\n-- end");
}

fn fail_the_handshake(client: &mut Client) {
    client.play("S: 220 *\nC: STARTTLS\nS: 220 *\nC: this is no ClientHello");
    client.rest();
}

fn refused_at_start(client: &mut Client) {
    client.play("S: 421 4.3.5 *\n-- end");
}

// DESIGN 2: the monitor ends "with that program's exit code (killed by a signal: 111; never started because the handshake failed: 0)".
#[test]
fn the_last_program_gives_the_exit_code() {
    for (words, play, expected, line) in [
        ("starttls-wrap ./seven", quit as fn(&mut Client), 7, ""),
        ("starttls-wrap -S ./seven", quit, 7, ""),
        ("starttls-wrap -k ./seven", quit_in_tls, 7, "tls ok "),
        ("starttls-wrap ./seven", quit_in_tls, 7, "tls ok "),
        ("starttls-wrap ./seven", |client| client.half_close(), 3, ""),
        ("starttls-wrap ./seven", fail_the_handshake, 0, "tls failed from=server "),
        (
            "starttls-wrap -i ./seven",
            |client| {
                client.send("EHLO x\r\n");
                client.rest();
            },
            0,
            "tls failed from=server ",
        ),
        ("starttls-wrap -i ./seven", |client| client.half_close(), 0, ""),
        (
            "starttls-wrap ./seven",
            |client| client.play("S: 220 *\nC: KILL\nS: 421 4.3.0 *\n-- end"),
            111,
            "program killed signal=9",
        ),
    ] {
        let (code, log) = code(chain(words), play);
        assert_eq!(code, Some(expected), "{words}\n{log}");
        assert!(log.contains(line), "{words}: {line}\n{log}");
    }
}

// RFC 3207 4: 454, and then the session goes on: its program is the last one.
#[test]
fn a_session_that_went_on_in_clear_ends_with_its_programs_code() {
    for key in ["missing", "empty"] {
        let chain = chain("starttls-wrap ./seven").file("empty", "");
        let path = chain.folder.text(key);
        let (code, log) = code(chain.env("KEYFILE", &path), |client| {
            client.play("S: 220 *\nC: STARTTLS\nS: 454 *\nC: QUIT\nS: 221 *\n-- end");
        });
        assert_eq!(code, Some(7), "{key}: {log}");
    }
}

// DESIGN 3: "111 temporary system failure"; 2: 421 where a reply is due.
#[test]
fn a_program_that_cannot_be_run_is_a_421_and_111() {
    for (words, play) in [
        (
            "starttls-wrap ./missing",
            (|client| client.play("S: 421 4.3.0 *\n-- end")) as fn(&mut Client),
        ),
        ("starttls-wrap -i ./missing", |client| client.play("-- TLS\nS: 421 4.3.0 *\n-- end")),
    ] {
        let (code, log) = code(chain(words), play);
        assert_eq!(code, Some(111), "{words}\n{log}");
        assert!(log.contains("fatal: unable to run ./missing: No such file or directory"), "{log}");
    }
}

// DESIGN 3: "100 wrong usage or configuration", with a line that says what is wrong.
#[test]
fn wrong_usage_and_configuration_are_100() {
    for (words, variable, line) in [
        ("starttls-wrap", None, "no program to run; usage: starttls-wrap "),
        ("starttls-wrap -Z ./seven", None, "usage: starttls-wrap "),
        ("starttls-wrap --frobnicate ./seven", None, "usage: starttls-wrap "),
    ] {
        let (code, log) = code(with(chain(words), variable), |client| client.closed());
        assert_eq!(code, Some(100), "{words}\n{log}");
        assert!(log.contains(line), "{words}: {line}\n{log}");
    }
    for (words, variable, line) in [
        ("starttls-wrap -i ./seven", Some(("DENY_TLS", "1")), "-i contradicts DENY_TLS"),
        ("starttls-wrap ./seven", Some(("TLS_UID", "nobody")), "TLS_UID"),
        ("starttls-wrap ./seven", Some(("KEY_GID", "7")), "KEY_UID is not set"),
    ] {
        let (code, log) = code(with(chain(words), variable), refused_at_start);
        assert_eq!(code, Some(100), "{words}\n{log}");
        assert!(log.contains(line), "{words}: {line}\n{log}");
    }
}

fn with(chain: Builder, variable: Option<(&str, &str)>) -> Builder {
    match variable {
        Some((name, value)) => chain.env(name, value),
        None => chain,
    }
}

// DESIGN 2: no own uid in a small user namespace: "exit 100 and a line that names the variable to set".
#[test]
fn a_small_user_namespace_is_100_and_names_the_variable() {
    if !needs_root() {
        return;
    }
    let (code, log) =
        code(chain("unshare --user --map-root-user starttls-wrap ./seven"), refused_at_start);
    assert_eq!(code, Some(100), "{log}");
    assert!(log.contains("set TLS_UID"), "{log}");
}

// DESIGN 2: "SIGCHLD default at start"; descriptors 0 and 1 may be closed: a client that has gone.
#[test]
fn odd_starts_change_nothing() {
    let (deaf, log) = code(
        chain("env --ignore-signal=CHLD --block-signal=TERM starttls-wrap ./seven"),
        quit_in_tls,
    );
    assert_eq!(deaf, Some(7), "{log}");
    // Descriptor 2 on the client's socket, as inetd has it: no log may get into the session.
    let merged = chain("./merged starttls-wrap ./seven").env("KEYFILE", "/nonexistent");
    merged.folder.script("merged", "#!/bin/sh\nexec \"$@\" 2>&1\n");
    let (merged, log) = code(merged, |client| {
        client.play("S: 220 *\nC: STARTTLS\nS: 454 *\nC: QUIT\nS: 221 *\n-- end");
    });
    assert_eq!((merged, log.as_str()), (Some(7), ""));
    let (closed, log) = code(chain("./closed starttls-wrap ./seven"), |client| client.closed());
    assert_eq!(closed, Some(3), "{log}");
}

/// Makes `./old`, which runs its words on a kernel that knows neither seccomp(2) nor Landlock.
fn old_kernel(folder: &Folder) {
    folder.write("old.c", OLD);
    let compiled = Command::new("cc")
        .args(["-o", "old", "old.c"])
        .current_dir(folder.path(""))
        .status()
        .unwrap();
    assert!(compiled.success());
}

const OLD: &str = r#"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
  struct sock_filter filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444 /* landlock_create_ruleset */, 0, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 99;
  execvp(argv[1], argv + 1);
  return 98;
}
"#;

// DESIGN 2: "Without Landlock or seccomp in the kernel: go on, one log line; -S demands them."
#[test]
fn an_old_kernel_is_one_log_line_or_with_s_a_refusal() {
    if !needs_root() || !debian("cc", "gcc") {
        return;
    }
    let server = chain("./old starttls-wrap ./seven");
    old_kernel(&server.folder);
    let (without, log) = code(server, quit_in_tls);
    assert_eq!(without, Some(7), "{log}");
    assert_eq!(log.matches("this machine lacks landlock, seccomp").count(), 1, "{log}");
    let server = chain("./old starttls-wrap -S ./seven");
    old_kernel(&server.folder);
    let (strict, log) = code(server, refused_at_start);
    assert_eq!(strict, Some(100), "{log}");
    assert_eq!(log.matches("fatal: this machine lacks landlock").count(), 1, "{log}");
}
