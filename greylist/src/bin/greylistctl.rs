//! greylistctl: look at greylist's store, and change it by hand.

use std::env::var_os;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plumb::{Doing, Error, Result};

use greylist::network::{Network, host_key, is_name};
use greylist::place::Place;
use greylist::settings::{policy, store};
use greylist::store::Down;
use greylist::store::sqlite::{Counts, Entry, Sqlite};
use greylist::triplet::{Policy, Seconds};
use greylist::words::clock;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(PROGRAM),
    }
}

fn run() -> Result<()> {
    let command = Command::parse()?;
    let policy = policy(|name| var_os(name))?;
    let path = store(command.store.or_else(|| var_os("GREYLIST_DB")))?;
    let (_, name) = Place::open(&path)?.enter()?;
    let open = match command.task {
        Task::Add(_) => Sqlite::open,
        _ => Sqlite::open_existing,
    };
    let down = |down: Down| Error::temporary(format!("{}: {down}", path.display()));
    let store = open(Path::new(&name), PATIENCE).map_err(down)?;
    let mut out = BufWriter::new(io::stdout().lock());
    command.task.carry_out(store, &policy, &mut out).map_err(down)?;
    unless_unread(out.flush()).doing("write to standard output")
}

/// Whoever reads no further, as head(1), has seen enough.
fn unless_unread(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// What the command line says.
struct Command {
    store: Option<OsString>,
    task: Task,
}

enum Task {
    List,
    Add(Vec<String>),
    Remove(Vec<String>),
    Expire,
    Stats,
}

impl Command {
    fn parse() -> Result<Command> {
        let (mut store, mut words) = (None, Vec::new());
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next().map_err(|error| usage(&error.to_string()))? {
            match argument {
                lexopt::Arg::Short('f') => {
                    store = Some(parser.value().map_err(|error| usage(&error.to_string()))?);
                }
                lexopt::Arg::Value(word) => {
                    let word = word.into_string();
                    words.push(word.map_err(|_| usage("a word that is not UTF-8"))?);
                }
                other => return Err(usage(&other.unexpected().to_string())),
            }
        }
        Ok(Command { store, task: Task::parse(&words)? })
    }
}

impl Task {
    fn parse(words: &[String]) -> Result<Task> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["list"] => Ok(Task::List),
            ["expire"] => Ok(Task::Expire),
            ["stats"] => Ok(Task::Stats),
            ["add", hosts @ ..] if !hosts.is_empty() => keys(hosts).map(Task::Add),
            ["remove", hosts @ ..] if !hosts.is_empty() => keys(hosts).map(Task::Remove),
            [] => Err(usage("nothing to do")),
            other => Err(usage(&format!("what is '{}'?", other.join(" ")))),
        }
    }

    fn carry_out(
        self,
        mut store: Sqlite,
        policy: &Policy,
        out: &mut impl Write,
    ) -> std::result::Result<(), Down> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut written = Ok(());
        match self {
            Task::List => store.list(|entry| {
                if written.is_ok() {
                    written = show(out, &entry, now);
                }
            })?,
            Task::Add(hosts) => hosts.iter().try_for_each(|host| store.add(host, now))?,
            Task::Remove(hosts) => {
                for host in hosts {
                    let count = store.remove(&host)?;
                    written =
                        written.and_then(|()| writeln!(out, "removed {host} entries={count}"));
                }
            }
            Task::Expire => {
                let count = store.expire(policy, now)?;
                written = writeln!(out, "expired entries={count}");
            }
            Task::Stats => written = tell(out, &store.counts(policy, now)?),
        }
        unless_unread(written)
            .map_err(|error| Down(format!("unable to write to standard output: {error}")))
    }
}

fn show(out: &mut impl Write, entry: &Entry, now: Seconds) -> io::Result<()> {
    let ago = |time: Seconds| clock(now.saturating_sub(time));
    match entry {
        Entry::Host(host, known) => {
            writeln!(out, "known {host} since={} last={}", ago(known.since), ago(known.last))
        }
        Entry::Triple(triple, waiting) => writeln!(
            out,
            "waiting {} from=<{}> to=<{}> since={} attempts={}",
            triple.host,
            triple.sender,
            triple.recipient,
            ago(waiting.first),
            waiting.tries
        ),
    }
}

fn tell(out: &mut impl Write, counts: &Counts) -> io::Result<()> {
    writeln!(out, "known={} of-these-new-within-a-day={}", counts.hosts, counts.new_hosts)?;
    let Counts { waiting, once, given_up, .. } = counts;
    writeln!(out, "waiting={waiting} of-these-seen-once={once} of-these-too-late={given_up}")
}

/// The names under which greylist remembers these hosts: for an address its network; networks and domains as they are.
fn keys(hosts: &[&str]) -> Result<Vec<String>> {
    let key = |host: &&str| match host.parse::<IpAddr>() {
        Ok(address) => Ok(host_key(address.to_canonical(), None)),
        Err(_) => match Network::parse(host) {
            Some(network) => Ok(network.to_string()),
            None if is_name(host) => Ok(host.to_ascii_lowercase()),
            None => Err(usage(&format!("'{host}' is no address, network or domain"))),
        },
    };
    hosts.iter().map(key).collect()
}

fn usage(what: &str) -> Error {
    Error::permanent(format!("{what}; usage: {USAGE}"))
}

const PROGRAM: &str = "greylistctl";
const USAGE: &str = "greylistctl [-f store] list | add host ... | remove host ... | expire | stats";

/// Nobody waits for mail here; a busy store gets its time.
const PATIENCE: Duration = Duration::from_secs(60);
