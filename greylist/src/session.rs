//! One client: looked up in a locked-in child, which then relays, or lets the program have the client to itself.

use std::env::var;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plumb::child::{Ends, Word, split_if};
use plumb::die::CONFIGURATION;
use plumb::end::End;
use plumb::log::Log;
use plumb::middle::Outbox;
use plumb::process::{Program, exit_now, ignore_sigpipe};
use plumb::relay::relay;
use plumb::sandbox::{Profile, lock_in};
use plumb::ucspi::Ucspi;
use plumb::{Doing, Result};

use greylist::gate::Gate;
use greylist::judge::Judge;
use greylist::network::host_key;
use greylist::place::Place;
use greylist::rules::Client;
use greylist::settings::Settings;
use greylist::store::sqlite::Sqlite;
use greylist::store::{Down, Store};
use greylist::triplet::{Known, Seconds};
use greylist::words::{Event, UNHEARD};

use crate::refuse;

/// What is known before the client has said a word.
pub struct Session {
    settings: Settings,
    /// The client's network or domain; none where its address is not known.
    host: Option<String>,
    log: Log,
}

impl Session {
    /// A session with the client that `facts` tell of.
    pub fn new(mut settings: Settings, facts: &Ucspi, log: Log) -> Session {
        let verified = settings.verified_name;
        let name = facts.remote_host.as_deref().and_then(OsStr::to_str);
        let host = facts.remote_ip.map(|address| {
            let client = Client { address, name, verified };
            settings.rules = settings.rules.for_client(&client, |name| var(name).ok());
            host_key(address, name.filter(|_| verified))
        });
        Session { settings, host, log }
    }

    /// Becomes the program; only the relaying child, once it is done, and errors come back.
    pub fn run(mut self, program: Program, strict: bool) -> Result<()> {
        let why = match self.host {
            None => Some("no-address"),
            Some(_) if self.settings.rules.always_pass() => Some("rule"),
            Some(_) => None,
        };
        if let Some(why) = why {
            self.leave_alone(why, None);
            return Err(program.exec());
        }
        match Place::open(&self.settings.store) {
            Ok(place) => {
                let unheard = || self.log.line(Event::StoreDown(UNHEARD.into()));
                let (ends, word) = split_if(program, GO_AHEAD, unheard)?;
                self.in_child(&ends, word, place, strict)
            }
            Err(error) if error.exit_code() == CONFIGURATION => Err(refuse(error)),
            Err(error) => {
                self.log.line(Event::StoreDown(error.to_string()));
                Err(program.exec())
            }
        }
    }

    /// Locked in first, then the lookup, then the word to the waiting parent.
    fn in_child(mut self, ends: &Ends, word: Word, place: Place, strict: bool) -> Result<()> {
        ignore_sigpipe().doing("ignore SIGPIPE")?;
        ends.close_others(&[word.as_raw_fd(), place.as_raw_fd()]).doing("close descriptors")?;
        let (folder, store) = place.enter()?;
        let lacking = lock_in(Profile::database(folder), strict)?;
        if !lacking.is_empty() {
            self.log.line(format_args!("not locked in lacking={}", lacking.join(",")));
        }
        let (store, known) = self.look_up(Path::new(&store));
        let asks = store.is_some() && known.is_none();
        let relays = match asks || self.settings.rules.may_refuse() {
            true => word.relay(),
            // Nothing of this client can be delayed or refused: the program has it to itself.
            false => {
                word.stand_aside();
                false
            }
        };
        let due = known.is_some_and(|known| self.settings.policy.should_note(known, now()));
        let mut store = if due { self.note(store) } else { store };
        match relays {
            true => self.relay(ends, store, asks),
            false => {
                self.tidy(store.as_mut());
                // The kernel closes a store faster than SQLite does.
                exit_now(0)
            }
        }
    }

    /// The store unless it is down, and the host if the store knows it.
    fn look_up(&mut self, path: &Path) -> (Option<Sqlite>, Option<Known>) {
        let host = self.host.clone().unwrap_or_default();
        let found = Sqlite::open(path, STORE_PATIENCE).and_then(|mut store| {
            let known = store.known(&host)?;
            Ok((store, known))
        });
        let Some((store, known)) = self.unless_down(found) else { return (None, None) };
        let known = known.filter(|known| self.settings.policy.knows(*known, now()));
        if let Some(Known { since, .. }) = known {
            let age = now().saturating_sub(since);
            self.leave_alone("known", Some((age, store.took())));
        }
        (Some(store), known)
    }

    /// Lets the store know that a known host was here again.
    fn note(&mut self, store: Option<Sqlite>) -> Option<Sqlite> {
        let (mut store, host) = (store?, self.host.clone()?);
        let noted = store.note(&host, now());
        self.unless_down(noted).map(|()| store)
    }

    fn tidy(&mut self, store: Option<&mut Sqlite>) {
        let tidied = store.map_or(Ok(()), |store| store.tidy(&self.settings.policy, now()));
        // What could not be put in order is in the log, and waits for the next session.
        self.unless_down(tidied);
    }

    fn unless_down<T>(&mut self, result: std::result::Result<T, Down>) -> Option<T> {
        result.map_err(|down| self.log.line(Event::StoreDown(down.to_string()))).ok()
    }

    fn relay(self, ends: &Ends, store: Option<Sqlite>, asks: bool) -> Result<()> {
        let Session { settings, host, mut log } = self;
        let mut gate = Gate::new(Judge {
            policy: settings.policy,
            rules: settings.rules,
            host: host.unwrap_or_default(),
            host_only: settings.host_only,
            enforced: settings.enforced,
            store: store.map(|store| -> Box<dyn Store> { Box::new(store) }),
            asks,
            told: 0,
            clock: Box::new(now),
            report: Box::new(move |event| log.line(event)),
        });
        let mut client = End::new(ends.from_client.as_fd(), ends.to_client.as_fd());
        let mut program = End::socket(ends.program.as_fd());
        relay(&mut client, &mut program, None, &mut gate, &mut Outbox::default()).doing("poll")?;
        client.finish();
        gate.finish();
        Ok(())
    }

    fn leave_alone(&mut self, why: &'static str, known: Option<(Seconds, Duration)>) {
        let host = self.host.clone().unwrap_or_else(|| "-".into());
        self.log.line(Event::Left { why, host, known });
    }
}

fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How long the client waits for the lookup before the program greets it without greylist.
const GO_AHEAD: Duration = Duration::from_millis(300);

/// How long a session may wait for the store in all; the rest of the go-ahead is for the fork and the locking in.
const STORE_PATIENCE: Duration = Duration::from_millis(250);
