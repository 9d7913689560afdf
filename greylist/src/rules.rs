//! The administrator's rules: who passes, who waits longer, who may not send. The first that matches wins.

use std::fmt;
use std::net::IpAddr;

use crate::network::Network;
use crate::triplet::Seconds;

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

/// `example.org`, or with a dot in front of it everything below.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Domain {
    Exactly(String),
    Below(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    /// `<>`
    Null,
    /// `user@example.org`, or a name without a domain
    Whole(Vec<u8>),
    /// `user@`
    User(Vec<u8>),
    /// `@example.org`, `@.example.org`
    At(Domain),
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
        matches!(self.0.as_slice(), [Rule { action: Action::Pass, conditions }] if conditions.is_empty())
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

impl Domain {
    fn parse(text: &str) -> Domain {
        let text = text.to_ascii_lowercase();
        if text.starts_with('.') { Domain::Below(text) } else { Domain::Exactly(text) }
    }

    fn holds(&self, name: &[u8]) -> bool {
        match self {
            Domain::Exactly(domain) => name.eq_ignore_ascii_case(domain.as_bytes()),
            Domain::Below(domain) => {
                let above = name.len().checked_sub(domain.len());
                above
                    .filter(|&length| length > 0)
                    .and_then(|length| name.get(length..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(domain.as_bytes()))
            }
        }
    }
}

impl Address {
    fn parse(text: &str) -> Address {
        match text.rsplit_once('@') {
            _ if text == "<>" => Address::Null,
            Some(("", domain)) => Address::At(Domain::parse(domain)),
            Some((user, "")) => Address::User(user.into()),
            _ => Address::Whole(text.into()),
        }
    }

    fn holds(&self, address: &[u8]) -> bool {
        let at = address.iter().rposition(|&byte| byte == b'@').unwrap_or(address.len());
        let (user, domain) = address.split_at_checked(at).unwrap_or((address, &[]));
        match self {
            Address::Null => address.is_empty(),
            Address::Whole(whole) => address.eq_ignore_ascii_case(whole),
            Address::User(wanted) => user.eq_ignore_ascii_case(wanted),
            Address::At(wanted) => {
                domain.strip_prefix(b"@").is_some_and(|domain| wanted.holds(domain))
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Rules {
        Rules::parse(text, 86_400).unwrap()
    }

    fn left(text: &str, address: &str, name: Option<&str>) -> Rules {
        let client = Client { address: address.parse().unwrap(), name, verified: true };
        parse(text).for_client(&client, |name| (name == "LISTED").then(|| "127.0.0.4".to_owned()))
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rules = "# ours\n\
            pass\tnetwork 192.0.2.0/24 # office\n\n\
            delay 300 env LISTED network 198.51.100.0/24\n\
            refuse network 198.51.100.0/24\n\
            pass network ::/0\n";
        for (address, action) in [
            ("192.0.2.9", Some(Action::Pass)),
            ("198.51.100.9", Some(Action::Delay(300))),
            ("203.0.113.9", None),
            ("2001:db8::1", Some(Action::Pass)),
        ] {
            assert_eq!(left(rules, address, None).action(b"a@b", b"c@d"), action, "{address}");
        }
    }

    #[test]
    fn every_kind_of_condition_and_its_negation() {
        for (condition, holds) in [
            ("network 192.0.2.0/24", true),
            ("network !192.0.2.0/24", false),
            ("name mail.example.net", true),
            ("name .example.net", true),
            ("name example.net", false),
            ("name .net", true),
            ("name ail.example.net", false),
            ("name !.example.org", true),
            ("env LISTED", true),
            ("env LISTED=127.0.0.4", true),
            ("env LISTED=127.0.0.2", false),
            ("env MISSING", false),
            ("env !MISSING", true),
            ("sender a@b.example", true),
            ("sender A@B.Example", true),
            ("sender a@", true),
            ("sender @b.example", true),
            ("sender @.example", true),
            ("sender @example", false),
            ("sender <>", false),
            ("sender !<>", true),
            ("recipient postmaster", true),
            ("recipient postmaster@", true),
            ("recipient @b.example", false),
            ("recipient !postmaster sender a@", false),
            ("recipient postmaster sender a@ network 192.0.2.1", true),
        ] {
            let rules =
                left(&format!("refuse {condition}"), "192.0.2.1", Some("Mail.example.net."));
            let found = rules.action(b"a@b.example", b"Postmaster");
            assert_eq!(found.is_some(), holds, "{condition}");
        }
        let null = left("pass sender <>", "::1", None);
        assert_eq!(null.action(b"", b"a@b"), Some(Action::Pass));
        assert_eq!(null.action(b"<>", b"a@b"), None);
    }

    // greylite's defect 20: its rules are split at commas and blanks, wherever they stand.
    #[test]
    fn defect_20_a_value_is_whatever_stands_between_blanks() {
        let rules = left("refuse sender a{1,3}@x.example", "::1", None);
        assert_eq!(rules.action(b"a{1,3}@x.example", b""), Some(Action::Refuse));
        assert_eq!(rules.action(b"aa@x.example", b""), None);
    }

    // DESIGN 3: GREYLIST_HOST=1 asserts that TCPREMOTEHOST is verified.
    #[test]
    fn an_unverified_name_lets_nobody_pass() {
        let client =
            Client { address: "::1".parse().unwrap(), name: Some("x.example"), verified: false };
        for (rule, matches) in [
            ("pass name .example", false),
            ("pass name !.example.org", false),
            ("refuse name .example", true),
            ("delay 9 name .example", true),
        ] {
            let rules = parse(rule).for_client(&client, |_| None);
            assert_eq!(rules.action(b"", b"").is_some(), matches, "{rule}");
        }
    }

    #[test]
    fn what_is_certain_before_the_client_speaks() {
        let passes = |text| left(text, "192.0.2.1", None).always_pass();
        assert!(passes("pass"));
        assert!(passes("refuse network ::/0\npass network 192.0.2.0/24\nrefuse"));
        assert!(!passes("refuse sender @x\npass"));
        assert!(!passes("pass sender @x"));
        assert!(!passes(""));
        let refuses = |text| left(text, "192.0.2.1", None).may_refuse();
        assert!(refuses("pass sender @x\nrefuse recipient y@z"));
        assert!(!refuses("pass\nrefuse"));
        assert!(!refuses("refuse network ::/0\ndelay 5"));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, error) in [
            ("pass\nrefuze", "line 2: no such action: refuze"),
            ("\n\npass network 1.2.3", "line 3: no network: 1.2.3"),
            ("pass network", "line 1: nothing behind network"),
            ("pass name !", "line 1: nothing behind name"),
            ("delay", "line 1: delay needs a number of seconds"),
            ("delay x", "line 1: no number of seconds: x"),
            ("delay 86400", "line 1: a delay of 86400 s is not below the window of 86400 s"),
            ("pass country DE", "line 1: country is not supported yet"),
            ("pass as 64496", "line 1: as is not supported yet"),
            ("pass from x@y", "line 1: no such condition: from"),
        ] {
            let found = Rules::parse(text, 86_400).unwrap_err();
            assert_eq!(found.to_string(), error);
        }
    }
}
