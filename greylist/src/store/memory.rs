//! The store's twin in memory, for tests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::{Down, HOST_LIMIT, Store};
use crate::triplet::{Known, Policy, Seconds, Triple, Waiting};

/// Shared like a file; `broken` makes every operation fail, `full` every write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(pub(crate) Rc<RefCell<Content>>);

/// Hosts and triples.
pub(crate) type Remembered = (HashMap<String, Known>, HashMap<Triple, Waiting>);

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) hosts: HashMap<String, Known>,
    pub(crate) waiting: HashMap<Triple, Waiting>,
    pub(crate) broken: bool,
    pub(crate) full: bool,
    pub(crate) asked: usize,
    pub(crate) written: usize,
}

impl Memory {
    fn content(&self) -> Result<std::cell::RefMut<'_, Content>, Down> {
        let mut content = self.0.borrow_mut();
        content.asked = content.asked.saturating_add(1);
        if content.broken { Err(Down("broken".into())) } else { Ok(content) }
    }

    fn writable(&self) -> Result<std::cell::RefMut<'_, Content>, Down> {
        let mut content = self.content()?;
        content.written = content.written.saturating_add(1);
        if content.full { Err(Down("full".into())) } else { Ok(content) }
    }

    /// What is remembered, to be put back.
    pub(crate) fn copy(&self) -> Remembered {
        let content = self.0.borrow();
        (content.hosts.clone(), content.waiting.clone())
    }

    pub(crate) fn put_back(&self, remembered: &Remembered) {
        let mut content = self.0.borrow_mut();
        (content.hosts, content.waiting) = remembered.clone();
    }
}

impl Store for Memory {
    fn known(&mut self, host: &str) -> Result<Option<Known>, Down> {
        Ok(self.content()?.hosts.get(host).copied())
    }

    fn waiting(&mut self, triple: &Triple) -> Result<Option<Waiting>, Down> {
        Ok(self.content()?.waiting.get(triple).copied())
    }

    fn remember(&mut self, triple: &Triple, now: Seconds, oldest: Seconds) -> Result<bool, Down> {
        let mut content = self.writable()?;
        let waits = |other: &Triple, waiting: &Waiting| {
            other.host == triple.host && (oldest..=now).contains(&waiting.first)
        };
        let others = content.waiting.iter().filter(|(other, waiting)| waits(other, waiting));
        let full = others.count() >= usize::try_from(HOST_LIMIT).unwrap();
        if full && !content.waiting.contains_key(triple) && *triple != Triple::crowd(&triple.host) {
            return Ok(false);
        }
        let entry =
            content.waiting.entry(triple.clone()).or_insert(Waiting { first: now, tries: 0 });
        if !(oldest..=now).contains(&entry.first) {
            *entry = Waiting { first: now, tries: 0 };
        }
        entry.tries = entry.tries.saturating_add(1);
        Ok(true)
    }

    fn admit(&mut self, triple: &Triple, now: Seconds) -> Result<(), Down> {
        let mut content = self.writable()?;
        content.waiting.remove(triple);
        let known = Known { since: now, last: now };
        content.hosts.entry(triple.host.clone()).or_insert(known).last = now;
        Ok(())
    }

    fn note(&mut self, host: &str, now: Seconds) -> Result<(), Down> {
        self.writable()?.hosts.entry(host.to_owned()).and_modify(|known| known.last = now);
        Ok(())
    }

    fn took(&self) -> Duration {
        Duration::ZERO
    }

    fn tidy(&mut self, _policy: &Policy, _now: Seconds) -> Result<(), Down> {
        Ok(())
    }
}
