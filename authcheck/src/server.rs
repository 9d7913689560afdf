//! `-s`: the password process beside the program, and how both come to be.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use plumb::log::Log;
use plumb::privs::Identity;
use plumb::process::{Fork, Program, exit_now, fork, wait};
use plumb::sandbox::{Profile, confine};
use plumb::ucspi::{Ucspi, connid, switch};
use plumb::{Doing, Result, fds};

use crate::attempt::Connection;
use crate::delegate::{self, Delegate};
use crate::lines::{Lines, pause};
use crate::request::Order;
use crate::secret::wipe_stack;
use crate::service::{Environment, Keeper, Service};
use crate::store::Users;
use crate::text;

/// What the command line says.
#[derive(Debug)]
pub struct Settings {
    /// Who knows the passwords.
    pub source: Source,
    /// Whether a machine without seccomp or Landlock is refused.
    pub strict: bool,
    /// What runs in front of the password process.
    pub program: Vec<OsString>,
}

/// Who knows the passwords.
#[derive(Debug)]
pub enum Source {
    /// A users.cdb.
    Users(PathBuf),
    /// A checkpassword program with its arguments, the order of CRAM-MD5's fields, and whether it can do that.
    Program(Vec<OsString>, Order, bool),
}

/// Starts the password process, waits until it is locked in, and becomes the program.
///
/// Returns the password process' exit code where that could not begin; an error is that of the program.
pub fn serve(settings: Settings) -> Result<u8> {
    let pid = std::process::id();
    let connid = connid(env("CONNID").as_deref(), SystemTime::now(), pid);
    let mut log = Log::new(PROGRAM, pid, &*connid);
    let identity = Identity::from_env("AUTH", env)?;
    let program = Program::new(&settings.program)?;
    let environment = environment(matches!(settings.source, Source::Program(_, _, true)));
    let keeper = keeper(settings.source)?;
    let (ours, theirs) = fds::socketpair().doing("make a socketpair")?;
    match fork().doing("fork")? {
        Fork::Child => {
            if let Err(error) = lock_in(&ours, &keeper, &identity, settings.strict, &mut log) {
                // The parent passes the exit code on.
                let _ = error.report(PROGRAM);
                exit_now(error.exit_code());
            }
            converse(ours, Service::new(keeper, environment), &mut log, pause);
            exit_now(0)
        }
        Fork::Parent(child) => {
            drop((ours, keeper));
            let mut socket = UnixStream::from(theirs);
            if socket.read_exact(&mut [0]).is_err() {
                return Ok(wait(child).doing("wait for the password process")?.exit_code());
            }
            let number = fds::inherit(socket.into()).doing("keep SASLFD open")?;
            let program = program.env("SASLFD", number.to_string()).env("CONNID", connid);
            Err(program.env_remove("AUTH_UID").env_remove("AUTH_GID").exec())
        }
    }
}

/// Opens users.cdb, or starts the process that runs the program: both while this one is still what it was started as.
fn keeper(source: Source) -> Result<Keeper> {
    let (argv, order) = match source {
        Source::Users(path) => {
            let users = Users::open(&path);
            return Ok(Keeper::Users(
                users.map_err(|cause| format!("{}: {cause}", path.display())),
            ));
        }
        Source::Program(argv, order, _) => (argv, order),
    };
    let (asker, runner) = fds::packetpair().doing("make a socketpair")?;
    match fork().doing("fork")? {
        Fork::Parent(_) => Ok(Keeper::Program(Delegate::new(asker, order))),
        Fork::Child => {
            let alone = fds::null_stdio(&[0, 1])
                .and_then(|()| fds::close_all_but(&[0, 1, 2, runner.as_raw_fd()]));
            if alone.is_ok() {
                delegate::run(&runner, &argv);
            }
            exit_now(0)
        }
    }
}

/// Nothing but the log, SASLFD's other end and users.cdb stays within reach; then the parent may go on.
fn lock_in(
    ours: &OwnedFd,
    keeper: &Keeper,
    identity: &Identity,
    strict: bool,
    log: &mut Log,
) -> Result<()> {
    fds::null_stdio(&[0, 1]).doing("open /dev/null")?;
    let keep: Vec<_> = [0, 1, 2, ours.as_raw_fd()].into_iter().chain(keeper.descriptor()).collect();
    fds::close_all_but(&keep).doing("close descriptors")?;
    let lacking = confine(identity, Profile::reader(), strict)?;
    if !lacking.is_empty() {
        log.line(format_args!("not locked in lacking={}", lacking.join(",")));
    }
    nix::unistd::write(ours, b"\n").doing("write to the program")?;
    Ok(())
}

/// Answers line by line, until the other side or the service ends; `pause` waits.
fn converse(
    socket: OwnedFd,
    mut service: Service,
    log: &mut Log,
    pause: impl Fn(Duration) -> io::Result<()>,
) {
    let mut lines = Lines::new(socket);
    loop {
        let deadline = if service.in_exchange() { after(STEP) } else { None };
        let Ok(Some(line)) = lines.next(deadline) else { return };
        let answer = service.line(&line);
        // Nothing of a password is left when its answer is heard.
        drop(line);
        wipe_stack();
        if let Some(event) = &answer.log {
            log.line(event);
        }
        let paused = pause(answer.delay);
        let said = lines.socket().write_all(answer.say.as_bytes());
        if answer.end || paused.is_err() || said.is_err() {
            return;
        }
    }
}

/// What the environment says about this connection.
fn environment(cram: bool) -> Environment {
    let on = |name: &str| switch(env(name).as_deref());
    // With UCSPI-TLS the program itself begins TLS, later, and keeps the rules itself.
    let later = env("SSLCTLFD").is_some();
    let insecure = on("ALLOW_INSECURE_AUTH") || env("FORCETLS").is_some_and(|value| value == "0");
    let exporter = env("SSL_TLS_EXPORTER").and_then(|hex| text::unhex(hex.as_encoded_bytes()));
    let host = Ucspi::of_process().local_host.and_then(|host| host.into_string().ok());
    Environment {
        connection: Connection::of_process(),
        allowed: on("SSL") || insecure || later,
        exporter,
        host: host.filter(|host| is_host(host)).unwrap_or_else(|| NO_HOST.into()),
        cram,
    }
}

fn is_host(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(plain)
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// How long a client may take for one answer.
const STEP: Duration = Duration::from_secs(60);

/// RFC 1035 2.3.4: longest name of a host.
const HOST_MAX: usize = 255;
const NO_HOST: &str = "localhost";

/// The name in the log.
pub const PROGRAM: &str = "authcheck";

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::*;
    use crate::facts::{Facts, SECRET};
    use crate::secret::Secret;
    use crate::store;

    fn nobody() -> Users {
        let facts = Facts::of(std::iter::empty(), Secret::new(vec![7; SECRET]));
        let path = std::env::temp_dir().join(format!("authcheck-server-{}", std::process::id()));
        fs::write(&path, store::compile(&facts, &[]).unwrap()).unwrap();
        let users = Users::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        users
    }

    // Who guesses waits before the answer: dropping the connection to begin anew gains nothing but what tcpserver -c allows.
    #[test]
    fn the_delay_comes_before_the_answer_and_grows() {
        let (ours, theirs) = fds::socketpair().unwrap();
        let mut theirs = UnixStream::from(theirs);
        // RFC 4616 2: user may not act for root, so nothing has to be hashed.
        let wrong = text::encode(b"root\0user\0secret");
        theirs.write_all(format!("AUTH PLAIN {wrong}\n").repeat(3).as_bytes()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let answered = |mut socket: &UnixStream| {
            let mut said = [0; 4096];
            let count = socket.read(&mut said).unwrap_or(0);
            String::from_utf8_lossy(&said[..count]).into_owned()
        };
        let waits = RefCell::new(Vec::new());
        let environment = Environment { allowed: true, ..Environment::default() };
        let service = Service::new(Keeper::Users(Ok(nobody())), environment);
        converse(ours, service, &mut Log::new(PROGRAM, 1, "c"), |time| {
            waits.borrow_mut().push((time.as_secs(), answered(&theirs)));
            Ok(())
        });
        let failed = || format!("{}\n", crate::replies::FAILED);
        assert_eq!(*waits.borrow(), [(1, String::new()), (2, failed()), (4, failed())]);
        assert_eq!(answered(&theirs), "", "the third is not answered");
    }
}
