//! A home for qmail with control files and a queue program, and sessions in it.

use std::ffi::OsString;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use plumb::errand::Errand;
use plumb::process::Ended;

/// One test's folder; it is QMAILHOME.
pub struct Place {
    folder: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

/// What a session left.
#[derive(Debug)]
pub struct Told {
    pub replies: String,
    pub log: String,
    pub ended: Ended,
}

/// A session that goes on.
pub struct Running {
    errand: Errand,
    pub input: Option<PipeWriter>,
    pub replies: PipeReader,
    log: PipeReader,
}

/// Stores message and envelope.
const KEEP: &str = "cat >message; cat <&1 >envelope";

impl Place {
    /// control/me and control/rcpthosts say mx.test; the queue program stores what it gets.
    pub fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("place-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(folder.join("control")).unwrap();
        let place = Place { folder, variables: Vec::new() }
            .file("control/me", "mx.test\n")
            .file("control/rcpthosts", "mx.test\n")
            .queue(KEEP);
        let home = place.folder.clone().into_os_string();
        place
            .variable("QMAILHOME", home)
            .variable("QMAILQUEUE", "queue")
            .variable("PATH", "/usr/bin:/bin")
    }

    pub fn variable(mut self, name: &str, value: impl Into<OsString>) -> Place {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Place {
        fs::write(self.path(name), content).unwrap();
        self
    }

    pub fn without(self, name: &str) -> Place {
        fs::remove_file(self.path(name)).unwrap();
        self
    }

    pub fn script(self, name: &str, text: &str) -> Place {
        let place = self.file(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    pub fn queue(self, text: &str) -> Place {
        self.script("queue", text)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What is in a file, empty if it is not there.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    pub fn start(&self, more: &[(BorrowedFd<'_>, i32)]) -> Running {
        let (input_end, input) = std::io::pipe().unwrap();
        let (replies, replies_end) = std::io::pipe().unwrap();
        let (log, log_end) = std::io::pipe().unwrap();
        let mut descriptors =
            vec![(input_end.as_fd(), 0), (replies_end.as_fd(), 1), (log_end.as_fd(), 2)];
        descriptors.extend_from_slice(more);
        let program = env!("CARGO_BIN_EXE_smtpd").as_ref();
        let errand = Errand::start(program, &self.variables, &descriptors).unwrap();
        Running { errand, input: Some(input), replies, log }
    }

    /// A whole session: the client says all of this, then is silent.
    pub fn session(&self, input: impl AsRef<[u8]>) -> Told {
        let mut running = self.start(&[]);
        let bytes = input.as_ref().to_vec();
        let mut pipe = running.input.take().unwrap();
        // smtpd may end before it has read everything.
        let writer = thread::spawn(move || pipe.write_all(&bytes).ok());
        let told = running.end();
        writer.join().unwrap();
        told
    }

    /// The reply to the end of one message; without what changes from day to day.
    pub fn send(&self, body: &str) -> String {
        let told = self.session(mail(body));
        let mut lines = told.replies.lines().rev();
        assert_eq!(lines.next(), Some("221 2.0.0 mx.test"), "{told:?}");
        lines.next().unwrap().to_owned()
    }
}

impl Running {
    pub fn say(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads one line of a reply.
    pub fn hear(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            assert_eq!(self.replies.read(&mut byte).unwrap(), 1, "{}", line.escape_ascii());
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// Hangs up and collects what is left.
    pub fn end(mut self) -> Told {
        drop(self.input.take());
        let (mut replies, mut log) = (String::new(), String::new());
        self.replies.read_to_string(&mut replies).unwrap();
        self.log.read_to_string(&mut log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ended = self.errand.wait_until(deadline).unwrap().expect("smtpd hangs");
        Told { replies, log, ended }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !thread::panicking() {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

/// A session that sends one message.
pub fn mail(body: &str) -> String {
    format!("MAIL FROM:<from@client.test>\r\nRCPT TO:<to@mx.test>\r\nDATA\r\n{body}.\r\nQUIT\r\n")
}
