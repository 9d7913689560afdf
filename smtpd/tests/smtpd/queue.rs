//! qmail-queue's protocol, from the queue's side.

use crate::place::{Place, mail};

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

// qmail-queue(8), and the table of reference codes: 11 to 40 are permanent, all others temporary.
#[test]
fn every_exit_code_has_its_reply() {
    for (code, reply) in [
        (11, "554 5.1.3 envelope address too long for qq"),
        (12, "554 5.3.0 qq permanent problem"),
        (31, "554 5.3.0 mail server permanently rejected message"),
        (32, "554 5.3.5 private key file does not exist"),
        (40, "554 5.3.0 qq permanent problem"),
        (41, "451 4.3.0 qq temporary problem"),
        (51, "451 4.3.0 qq out of memory"),
        (52, "451 4.3.0 qq timeout"),
        (53, "451 4.3.0 qq write error or disk full"),
        (54, "451 4.3.0 qq read error"),
        (55, "451 4.3.0 qq unable to read configuration"),
        (56, "451 4.3.0 qq trouble making network connection"),
        (58, "451 4.3.0 qq trouble creating child process"),
        (59, "451 4.3.0 qq trouble creating pipes"),
        (61, "451 4.3.0 qq trouble in home directory"),
        (62, "451 4.3.0 qq trouble creating files in queue"),
        (66, "451 4.3.0 qq trouble creating files in queue"),
        (70, "451 4.3.0 qq trouble with pid file"),
        (71, "451 4.3.0 mail server temporarily rejected message"),
        (72, "451 4.4.1 connection to mail server timed out"),
        (73, "451 4.4.1 connection to mail server rejected"),
        (74, "451 4.4.2 communication with mail server failed"),
        (81, "451 4.3.0 qq internal bug"),
        (82, "451 4.3.0 qq temporary problem"),
        (91, "451 4.3.0 qq internal bug"),
        (115, "554 5.1.3 envelope address too long for qq"),
        (120, "451 4.3.0 unable to exec qq"),
        (1, "451 4.3.0 qq temporary problem"),
        (255, "451 4.3.0 qq temporary problem"),
    ] {
        let place = Place::new().queue(&format!("cat >/dev/null; cat <&1 >/dev/null; exit {code}"));
        assert_eq!(place.send(MESSAGE), reply, "{code}");
    }
}

// A reply is made of what a filter writes: no line of its may become a line of ours.
#[test]
fn the_queues_own_words() {
    for (complaint, reply) in [
        ("printf 'Dno spam today' >&6; exit 82", "554 5.3.0 no spam today"),
        ("printf 'Zlater\\n' >&4; exit 88", "451 4.3.0 later"),
        ("printf 'Dx\\r\\n250 ok\\r\\n' >&6; exit 82", "554 5.3.0 x250 ok"),
        ("printf 'Da\\001\\377\\033[1mb' >&6; exit 82", "554 5.3.0 a[1mb"),
        ("printf 'D' >&6; exit 82", "451 4.3.0 qq temporary problem"),
        ("printf 'what' >&6; exit 82", "451 4.3.0 qq temporary problem"),
        ("printf 'Dunheard' >&6; exit 31", "554 5.3.0 mail server permanently rejected message"),
    ] {
        let place = Place::new().queue(&format!("cat >/dev/null; cat <&1 >/dev/null; {complaint}"));
        assert_eq!(place.send(MESSAGE), reply, "{complaint}");
    }
    let long = Place::new().queue("head -c 9999 /dev/zero | tr '\\0' D >&6; exit 82");
    assert_eq!(long.send(MESSAGE), format!("554 5.3.0 {}", "D".repeat(254)));
}

#[test]
fn a_queue_that_dies_or_is_not_there_is_never_a_success() {
    let crashed = "451 4.3.0 qq crashed";
    assert_eq!(Place::new().queue("kill -9 $$").send(MESSAGE), crashed);
    assert_eq!(Place::new().queue("cat >/dev/null; kill -11 $$").send(MESSAGE), crashed);
    let missing = Place::new().variable("QMAILQUEUE", "nowhere");
    let told = missing.session("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nDATA\r\nQUIT\r\n");
    assert!(
        told.replies
            .ends_with("250 2.1.5 ok\r\n451 4.3.0 unable to exec qq\r\n221 2.0.0 mx.test\r\n")
    );
    assert!(told.log.contains("unable to run nowhere: No such file"), "{}", told.log);
}

// One that reads only a part and calls that a success has not got the message.
#[test]
fn a_queue_that_does_not_read_everything_has_nothing() {
    let read_error = "451 4.3.0 qq read error";
    let large = "x".repeat(70) + "\r\n";
    let large = large.repeat(20_000);
    assert_eq!(Place::new().queue("head -c 100 >/dev/null").send(&large), read_error);
    assert_eq!(Place::new().queue("exec <&- 1<&-; exit 0").send(&large), read_error);
    assert_eq!(
        Place::new().queue("head -c 9 >/dev/null; exit 53").send(&large),
        "451 4.3.0 qq write error or disk full",
    );
}

// qmail-queue(8): without the end of the envelope there is no message.
#[test]
fn what_is_given_up_gets_no_envelope() {
    let bare = "Subject: x\r\n\r\nbare\nline feed\r\n";
    let place = Place::new();
    assert_eq!(place.send(bare), "550 5.5.2 bare CR or LF in the message");
    assert_eq!(place.read("envelope"), "");
    for cut in
        ["DATA\r\nSubject: x\r\n\r\n", "BDAT 5\r\nabcde", "BDAT 5\r\nabc", "BDAT 2\r\na\nRSET\r\n"]
    {
        let place = Place::new();
        place.session(format!("MAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\n{cut}"));
        assert_eq!(place.read("envelope"), "", "{cut:?}");
    }
}

#[test]
fn what_the_queue_gets() {
    let place = Place::new().queue(
        "cat >message; cat <&1 >envelope; env >variables; ls -l /proc/$$/fd >fds; echo $$ >pid",
    );
    let place = place.variable("SASLFD", "7").variable("RELAYCLIENT", "").variable("KEPT", "yes");
    let (keeper, _other) = std::io::pipe().unwrap();
    let mut running = place.start(&[(std::os::fd::AsFd::as_fd(&keeper), 7)]);
    let mut transcript =
        mail("..Subject: x\r\n\r\n\0\u{fc}\r\n").replace("to@mx.test", "\"a b\"@other.test");
    transcript.insert_str(0, "EHLO \r\nEHLO client.test\r\n");
    running.say(&transcript);
    let told = running.end();
    let pid = place.read("pid");
    assert!(told.replies.contains(&format!(" qp {pid}").trim_end().to_owned()), "{told:?}");
    assert_eq!(place.read("envelope"), "Ffrom@client.test\0Ta b@other.test\0\0");
    let message = place.read("message");
    assert!(
        message.starts_with(
            "Received: from unknown (HELO client.test) (unknown)\n  by unknown with ESMTP; "
        ),
        "{message}"
    );
    assert!(message.ends_with(" -0000\n.Subject: x\n\n\0\u{fc}\n"), "{message}");
    let variables = place.read("variables");
    assert!(variables.contains("KEPT=yes\n") && variables.contains("CONNID="), "{variables}");
    assert!(!variables.contains("SASLFD"), "{variables}");
    let inherited = place.read("fds");
    let saslfd = format!("pipe:[{}]", inode(&keeper));
    assert!(!inherited.contains(&saslfd), "the password process is in reach: {inherited}");
}

fn inode(pipe: &std::io::PipeReader) -> u64 {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/self/fd/{}", pipe.as_raw_fd())).unwrap().ino()
}

#[test]
fn databytes_is_exact_and_the_session_goes_on() {
    let place = Place::new().file("control/databytes", "20\n");
    assert!(place.send("12345678\r\n\r\n123456789\r\n").starts_with("250 2.0.0 ok "));
    let too_big = "552 5.3.4 sorry, that message size exceeds my databytes limit";
    assert_eq!(place.send("12345678\r\n\r\n1234567890\r\n"), too_big);
    let larger = place.variable("DATABYTES", "21");
    assert!(larger.send("12345678\r\n\r\n1234567890\r\n").starts_with("250 2.0.0 ok "));
    let chunks = larger.session(
        "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nBDAT 30\r\n123456789012345678901234567890\
         BDAT 1 LAST\r\nxNOOP\r\n",
    );
    let end = format!("{too_big}\r\n503 5.5.1 MAIL first\r\n250 2.0.0 ok\r\n");
    assert!(chunks.replies.ends_with(&end), "{chunks:?}");
    assert!(chunks.replies.contains("250-SIZE 21\r\n"), "{chunks:?}");
}

// RFC 5321 6.3: loops are found by counting Received lines; the limit is 100.
#[test]
fn loops_are_ended() {
    let place = Place::new();
    assert!(place.send(&format!("{}\r\n", "Received: x\r\n".repeat(99))).starts_with("250 "));
    let looping = "554 5.4.6 too many hops, this message is looping";
    assert_eq!(place.send(&format!("{}\r\n", "Received: x\r\n".repeat(100))), looping);
}

#[test]
fn a_large_message_arrives_whole() {
    let line = "0123456789.ABCDEF\r\n";
    let place = Place::new().queue("cat >message; cat <&1 >/dev/null");
    assert!(place.send(&line.repeat(200_000)).starts_with("250 2.0.0 ok "));
    let message = place.read("message");
    let (_, body) = message.split_once("-0000\n").unwrap();
    assert!(body == line.replace("\r\n", "\n").repeat(200_000));
}

// RFC 3030 2: chunks are taken as they are; a last line without an end gets one.
#[test]
fn chunks_arrive_whole() {
    let place = Place::new();
    let told = place.session(
        "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\nBDAT 4\r\n.\r\nxBDAT 6 LAST\r\ny\r\n..zQUIT\r\n",
    );
    assert!(told.replies.contains("250 2.0.0 ok 4 octets received\r\n"), "{told:?}");
    assert!(place.read("message").ends_with("-0000\n.\nxy\n..z\n"), "{}", place.read("message"));
    assert_eq!(place.read("envelope"), "F\0Ta@mx.test\0\0");
}

#[test]
fn a_message_given_up_by_rset_is_not_the_beginning_of_the_next() {
    let begin = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@mx.test>\r\n";
    for given_up_by in ["RSET\r\n", "HELO x\r\n"] {
        let place = Place::new();
        let told = place
            .session(format!("{begin}BDAT 5\r\nold\r\n{given_up_by}{begin}BDAT 5 LAST\r\nnew\r\n"));
        assert!(told.replies.contains(" qp "), "{told:?}");
        assert!(place.read("message").ends_with("-0000\nnew\n"), "{}", place.read("message"));
    }
}
