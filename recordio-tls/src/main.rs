//! recordio-tls: see a session without spilling it.

use std::env::var_os;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, RawFd};
use std::process::ExitCode;
use std::time::SystemTime;

use plumb::child::{Ends, split};
use plumb::end::End;
use plumb::fds::set_cloexec;
use plumb::log::{Log, Outlet, value};
use plumb::middle::Outbox;
use plumb::privs::Identity;
use plumb::process::Program;
use plumb::relay::relay;
use plumb::sandbox::{Profile, confine};
use plumb::ucspi::{Ucspi, connid};
use plumb::{Doing, Error, Result};

use recordio_tls::message::Show;
use recordio_tls::queue::Keep;
use recordio_tls::recorder::Recorder;
use recordio_tls::redact::Settings;
use recordio_tls::sink::Sink;
use recordio_tls::stamp::Stamp;
use recordio_tls::story::{Grammar, Story};
use recordio_tls::talk::Protocol;
use recordio_tls::watch::{TlsBy, Watch};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

/// The parent becomes the program; only the child, and errors, come back from `split`.
fn run() -> Result<()> {
    plumb::process::begin()?;
    let options = Options::parse()?;
    let program = Program::new(&options.program)?;
    if options.log > STDERR {
        // The program has no business with it.
        let open = set_cloexec(options.log);
        open.map_err(|_| usage(&format!("descriptor {} is not open", options.log)))?;
    }
    if is_off(var_os("RECORDIO").as_deref()) {
        return Err(program.exec());
    }
    let session = Session::new()?;
    let ends = split(session.prepare(program))?;
    session.record(&ends, &options)
}

/// Facts of the connection, gathered before the program starts.
struct Session {
    pid: u32,
    connid: String,
    facts: Ucspi,
    identity: Identity,
}

impl Session {
    fn new() -> Result<Session> {
        let pid = std::process::id();
        Ok(Session {
            pid,
            connid: connid(var_os("CONNID").as_deref(), SystemTime::now(), pid),
            facts: Ucspi::of_process(),
            identity: Identity::from_env("RECORDIO", |name| var_os(name))?,
        })
    }

    /// Who comes after us cannot ask the socket any more.
    fn prepare(&self, program: Program) -> Program {
        let program = program.env("CONNID", &self.connid);
        let facts = self.facts.set.iter();
        facts
            .fold(program, |program, (name, value)| program.env(name, value))
            .env_remove("RECORDIO_UID")
            .env_remove("RECORDIO_GID")
    }

    fn record(self, ends: &Ends, options: &Options) -> Result<()> {
        ends.close_others(&[options.log]).doing("close descriptors")?;
        let outlet = Outlet::of(options.log);
        let mut log = Log::new(PROGRAM, self.pid, &*self.connid);
        let lacking = confine(&self.identity, Profile::relay(), options.strict)?;
        if !lacking.is_empty() {
            log.line(format_args!("not locked in lacking={}", lacking.join(",")));
        }
        let story = Story::new(options.grammar, self.pid, &self.connid)
            .stamped(options.stamp.unwrap_or_default());
        let sink = Sink::new(outlet, options.keep.unwrap_or_default());
        let tls_by = if var_os("SSLCTLFD").is_some() { TlsBy::Ucspi } else { TlsBy::Program };
        let watch = Watch::new(options.protocol, tls_by, options.settings);
        let mut recorder = Recorder::new(watch, story, sink, &self.start());
        let mut client = End::new(ends.from_client.as_fd(), ends.to_client.as_fd());
        let mut program = End::socket(ends.program.as_fd());
        let mut out = Outbox::default();
        let ending =
            relay(&mut client, &mut program, None, &mut recorder, &mut out).doing("poll")?;
        let ours = !recorder.handed_over();
        recorder.finish(ending);
        if ours {
            client.finish();
        }
        Ok(())
    }

    /// Who is there, and what a terminator of TLS in front of us has said.
    fn start(&self) -> String {
        let mut start = String::from("start");
        let address = |ip: Option<_>, port: Option<u16>| {
            Some(std::net::SocketAddr::new(ip?, port.unwrap_or(0)).to_string())
        };
        let known = [
            ("peer", address(self.facts.remote_ip, self.facts.remote_port)),
            ("local", address(self.facts.local_ip, self.facts.local_port)),
        ];
        for (key, address) in known {
            start.extend(address.map(|address| format!(" {key}={address}")));
        }
        for (name, key) in TLS_FACTS {
            let shown = var_os(name).map(|fact| value(fact.as_encoded_bytes(), FACT_MAX));
            start.extend(shown.map(|fact| format!(" {key}={fact}")));
        }
        start
    }
}

/// Whether the administrator, or tcprules for this client, wants no record: 0; unset means yes.
fn is_off(value: Option<&OsStr>) -> bool {
    let digits = value.unwrap_or_default().as_encoded_bytes();
    !digits.is_empty() && digits.iter().all(|&digit| digit == b'0')
}

/// What the command line says.
struct Options {
    settings: Settings,
    grammar: Grammar,
    stamp: Option<Stamp>,
    keep: Option<Keep>,
    log: RawFd,
    protocol: Option<Protocol>,
    strict: bool,
    program: Vec<OsString>,
}

impl Options {
    fn parse() -> Result<Options> {
        let mut options = Options {
            settings: Settings::default(),
            grammar: Grammar::Own,
            stamp: None,
            keep: None,
            log: STDERR,
            protocol: None,
            strict: false,
            program: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            use lexopt::Arg::{Short, Value};
            match argument {
                Short('b') => options.settings.show = Show::Header,
                Short('B') => options.settings.show = Show::Whole,
                Short('c') => options.grammar = Grammar::Recordio,
                Short('e') => set(&mut options.keep, Keep::Last, "-e and -w")?,
                Short('f') => options.log = descriptor(&value_of(&mut parser)?)?,
                Short('i') => set(&mut options.stamp, Stamp::Iso, "-i and -t")?,
                Short('p') => options.protocol = Some(protocol(&value_of(&mut parser)?)?),
                Short('S') => options.strict = true,
                Short('t') => set(&mut options.stamp, Stamp::Tai64n, "-i and -t")?,
                Short('u') => options.settings.users = true,
                Short('w') => set(&mut options.keep, Keep::All, "-e and -w")?,
                Value(program) => {
                    options.program.push(program);
                    options.program.extend(parser.raw_args().map_err(|e| usage(&e.to_string()))?);
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        if options.program.is_empty() { Err(usage("no program to run")) } else { Ok(options) }
    }
}

fn set<T: PartialEq>(option: &mut Option<T>, value: T, both: &str) -> Result<()> {
    match option.replace(value) {
        Some(other) if Some(&other) != option.as_ref() => {
            Err(usage(&format!("{both} contradict each other")))
        }
        _ => Ok(()),
    }
}

fn value_of(parser: &mut lexopt::Parser) -> Result<OsString> {
    parser.value().map_err(|error| usage(&error.to_string()))
}

fn descriptor(number: &OsStr) -> Result<RawFd> {
    let number = number.to_str().and_then(|digits| digits.parse().ok());
    number.filter(|&number| number >= STDERR).ok_or_else(|| usage("-f takes a number from 2 on"))
}

fn protocol(name: &OsStr) -> Result<Protocol> {
    match name.as_encoded_bytes() {
        b"smtp" => Ok(Protocol::Smtp),
        b"pop3" => Ok(Protocol::Pop3),
        b"imap" => Ok(Protocol::Imap),
        _ => Err(usage("-p takes smtp, pop3 or imap")),
    }
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

/// Where the log goes unless -f says otherwise.
const STDERR: RawFd = 2;

const PROGRAM: &str = "recordio-tls";
const USAGE: &str = "recordio-tls [-bBceiStuw] [-f descriptor] [-p smtp|pop3|imap] program ...";

/// Facts of the handshake that starttls-wrap gives to the program behind it, and their names in the log.
const TLS_FACTS: [(&str, &str); 5] = [
    ("SSL_PROTOCOL", "tls"),
    ("SSL_CIPHER", "cipher"),
    ("SSL_KEX_GROUP", "group"),
    ("SSL_TLS_SNI_SERVERNAME", "sni"),
    ("SSL_SESSION_RESUMED", "resumed"),
];

/// Longest fact that is written down; starttls-wrap lets no more than 512 bytes through.
const FACT_MAX: usize = 512;
