//! The administrator's rules: who passes, who waits longer, who may not send. The first that matches wins.

mod pattern;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use crate::network::Network;
use crate::triplet::Seconds;
use pattern::{Address, Domain};

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// No greylisting.
    Pass,
    /// Greylisting with this delay, in seconds.
    Delay(Seconds),
    /// No mail at all.
    Refuse,
}

/// Rules, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// What is known of a client before it speaks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Its reverse name.
    pub name: Option<&'a str>,
    /// Whether the name leads back to the address: only then a rule lets it pass by name.
    pub verified: bool,
}

/// Why a file was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct BadRule {
    line: usize,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    action: Action,
    conditions: Vec<Condition>,
}

/// What must be so, or with `negated` not so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Network(Network),
    Name(Domain),
    Variable { name: String, value: Option<String> },
    Sender(Address),
    Recipient(Address),
}

impl Rules {
    /// Reads a rules file; a delay must be shorter than `window` seconds, or nothing would ever pass.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub fn parse(text: &str, window: Seconds) -> Result<Rules, BadRule> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
            let rule = match words.next() {
                None => continue,
                Some(action) => Rule::parse(action, words, window),
            };
            let line = index.saturating_add(1);
            rules.push(rule.map_err(|reason| BadRule { line, reason })?);
        }
        Ok(Rules(rules))
    }

    /// The rules that still matter for a client: what is already certain is taken out, and whatever
    /// stands behind a rule that always matches.
    pub fn for_client(&self, client: &Client<'_>, env: impl Fn(&str) -> Option<String>) -> Rules {
        let mut left = Vec::new();
        for rule in &self.0 {
            let Some(rule) = rule.for_client(client, &env) else { continue };
            let certain = rule.conditions.is_empty();
            left.push(rule);
            if certain {
                break;
            }
        }
        Rules(left)
    }

    /// What the first matching rule asks for; none where no rule matches.
    pub fn action(&self, sender: &[u8], recipient: &[u8]) -> Option<Action> {
        let matches = |rule: &&Rule| rule.conditions.iter().all(|c| c.holds(sender, recipient));
        self.0.iter().find(matches).map(|rule| rule.action)
    }

    /// Whether every mail of this client passes.
    pub fn always_pass(&self) -> bool {
        self.0.iter().all(|rule| rule.action == Action::Pass)
            && self.0.iter().any(|rule| rule.conditions.is_empty())
    }

    /// Whether some mail of this client is refused.
    pub fn may_refuse(&self) -> bool {
        self.0.iter().any(|rule| rule.action == Action::Refuse)
    }
}

impl Rule {
    fn parse<'a>(
        action: &str,
        mut words: impl Iterator<Item = &'a str>,
        window: Seconds,
    ) -> Result<Rule, String> {
        let action = match action {
            "pass" => Action::Pass,
            "refuse" => Action::Refuse,
            "delay" => Action::Delay(delay(words.next(), window)?),
            other => return Err(format!("no such action: {other}")),
        };
        let mut conditions = Vec::new();
        while let Some(kind) = words.next() {
            let value = words.next().ok_or_else(|| format!("nothing behind {kind}"))?;
            let (negated, value) = match value.strip_prefix('!') {
                None => (false, value),
                Some(value) => (true, value),
            };
            conditions.push(Condition { negated, test: Test::parse(kind, value)? });
        }
        Ok(Rule { action, conditions })
    }

    /// None if it can never match this client.
    fn for_client(
        &self,
        client: &Client<'_>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Option<Rule> {
        let mut conditions = Vec::new();
        for condition in &self.conditions {
            match condition.for_client(client, &env, self.action) {
                Some(true) => {}
                Some(false) => return None,
                None => conditions.push(condition.clone()),
            }
        }
        Some(Rule { action: self.action, conditions })
    }
}

impl Condition {
    /// Whether it holds for this client; none if that depends on the mail.
    fn for_client(
        &self,
        client: &Client<'_>,
        env: impl Fn(&str) -> Option<String>,
        action: Action,
    ) -> Option<bool> {
        let holds = match &self.test {
            Test::Network(network) => network.contains(client.address),
            // Whoever runs the reverse zone of an address can give it any name.
            Test::Name(_) if action == Action::Pass && !client.verified => return Some(false),
            Test::Name(domain) => {
                client.name.is_some_and(|name| domain.holds(name.trim_end_matches('.').as_bytes()))
            }
            Test::Variable { name, value } => env(name).is_some_and(|is| match value {
                None => !is.is_empty(),
                Some(value) => is == *value,
            }),
            Test::Sender(_) | Test::Recipient(_) => return None,
        };
        Some(holds != self.negated)
    }

    fn holds(&self, sender: &[u8], recipient: &[u8]) -> bool {
        let holds = match &self.test {
            Test::Sender(address) => address.holds(sender),
            Test::Recipient(address) => address.holds(recipient),
            // Settled before the client spoke.
            Test::Network(_) | Test::Name(_) | Test::Variable { .. } => false,
        };
        holds != self.negated
    }
}

impl Test {
    fn parse(kind: &str, value: &str) -> Result<Test, String> {
        match kind {
            _ if value.is_empty() => Err(format!("nothing behind {kind}")),
            "network" => Network::parse(value)
                .map(Test::Network)
                .ok_or_else(|| format!("no network: {value}")),
            "name" => Ok(Test::Name(Domain::parse(value))),
            "env" => Ok(match value.split_once('=') {
                None => Test::Variable { name: value.to_owned(), value: None },
                Some((name, value)) => {
                    Test::Variable { name: name.to_owned(), value: Some(value.to_owned()) }
                }
            }),
            "sender" => Ok(Test::Sender(Address::parse(value))),
            "recipient" => Ok(Test::Recipient(Address::parse(value))),
            "country" | "as" => Err(format!("{kind} is not supported yet")),
            other => Err(format!("no such condition: {other}")),
        }
    }
}

impl fmt::Display for BadRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.reason)
    }
}

fn delay(word: Option<&str>, window: Seconds) -> Result<Seconds, String> {
    let word = word.ok_or("delay needs a number of seconds")?;
    match word.parse() {
        Ok(seconds) if seconds < window => Ok(seconds),
        Ok(_) => Err(format!("a delay of {word} s is not below the window of {window} s")),
        Err(_) => Err(format!("no number of seconds: {word}")),
    }
}
