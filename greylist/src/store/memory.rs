//! The store's twin in memory, for tests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{Down, Store};
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
}

impl Memory {
    fn content(&self) -> Result<std::cell::RefMut<'_, Content>, Down> {
        let mut content = self.0.borrow_mut();
        content.asked = content.asked.saturating_add(1);
        if content.broken { Err(Down("broken".into())) } else { Ok(content) }
    }

    fn writable(&self) -> Result<std::cell::RefMut<'_, Content>, Down> {
        let content = self.content()?;
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

    fn remember(&mut self, triple: &Triple, now: Seconds, oldest: Seconds) -> Result<(), Down> {
        let mut content = self.writable()?;
        let entry =
            content.waiting.entry(triple.clone()).or_insert(Waiting { first: now, tries: 0 });
        if !(oldest..=now).contains(&entry.first) {
            *entry = Waiting { first: now, tries: 0 };
        }
        entry.tries = entry.tries.saturating_add(1);
        Ok(())
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

    fn tidy(&mut self, _policy: &Policy, _now: Seconds) -> Result<(), Down> {
        Ok(())
    }
}
