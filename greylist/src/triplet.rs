//! What is known of a triple decides whether it may come in (RFC 6647).

/// Seconds since the beginning of 1970, UTC.
pub type Seconds = u64;

/// The limits within which a retry counts; all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an unknown triple must wait at least; less than the window.
    pub delay: Seconds,
    /// How long after the first attempt a retry still belongs to it.
    pub window: Seconds,
    /// How long a host is known after it was last seen.
    pub life: Seconds,
}

impl Default for Policy {
    /// RFC 6647 5 (2): 1 minute to 24 hours; (3): at least a week, here the 36 days of a month's mailing and some more.
    fn default() -> Policy {
        Policy { delay: 60, window: DAY, life: 36 * DAY }
    }
}

/// What identifies an attempt (RFC 6647 2.3): who sends, from whom, to whom first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Triple {
    /// The sending host's network or domain.
    pub host: String,
    /// The sender, normalised; empty for the null sender and where only hosts count.
    pub sender: String,
    /// The first recipient; empty where only hosts count.
    pub recipient: String,
}

impl Triple {
    /// What stands for all of a host's triples that are not remembered one by one, and where only hosts count.
    pub fn crowd(host: &str) -> Triple {
        Triple { host: host.to_owned(), sender: String::new(), recipient: String::new() }
    }
}

/// A triple that was asked to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// When it was first seen.
    pub first: Seconds,
    /// How often it was refused.
    pub tries: u32,
}

/// A host that came back once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// When it came in for the first time.
    pub since: Seconds,
    /// When it was last noted to be there.
    pub last: Seconds,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It came back in time.
    Pass {
        /// Seconds since the first attempt.
        waited: Seconds,
    },
    /// It must come back.
    Delay {
        /// Seconds until a retry will pass, at least 1.
        left: Seconds,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
}

impl Policy {
    /// Whether a triple that must wait `delay` seconds may come in `now`.
    pub fn decide(&self, delay: Seconds, waiting: Option<Waiting>, now: Seconds) -> Decision {
        match waiting.filter(|waiting| self.still_counts(*waiting, now)) {
            None => Decision::Delay { left: delay.max(1), attempt: 1 },
            Some(Waiting { first, tries }) => match now.saturating_sub(first) {
                waited if waited >= delay => Decision::Pass { waited },
                waited => Decision::Delay {
                    left: delay.saturating_sub(waited),
                    attempt: tries.saturating_add(1),
                },
            },
        }
    }

    /// Whether a retry still belongs to this attempt. One from the future, made before the clock was
    /// set back, would wait for ever.
    pub fn still_counts(&self, waiting: Waiting, now: Seconds) -> bool {
        (self.oldest_waiting(now)..=now).contains(&waiting.first)
    }

    /// Whether a host need not wait any more.
    pub fn knows(&self, host: Known, now: Seconds) -> bool {
        now.saturating_sub(host.last) <= self.life
    }

    /// Whether the store should learn that a known host was here again: once an hour, so that most sessions only read.
    pub fn should_note(&self, host: Known, now: Seconds) -> bool {
        now.abs_diff(host.last) >= NOTE_EVERY
    }

    /// First attempts before this moment are new ones when they come back (RFC 6647 5 (2)).
    pub fn oldest_waiting(&self, now: Seconds) -> Seconds {
        now.saturating_sub(self.window)
    }

    /// Hosts last seen before this moment are unknown.
    pub fn oldest_known(&self, now: Seconds) -> Seconds {
        now.saturating_sub(self.life)
    }
}

/// Seconds in a day.
pub const DAY: Seconds = 86_400;

/// How often a known host's entry is written.
const NOTE_EVERY: Seconds = 3_600;

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    const NOW: Seconds = 1_800_000_000;

    fn decide(first: Seconds, tries: u32) -> Decision {
        let policy = Policy::default();
        policy.decide(policy.delay, Some(Waiting { first, tries }), NOW)
    }

    // RFC 6647 5 (2): "default SHOULD be 1 minute to 24 hours".
    #[test]
    fn a_retry_between_a_minute_and_a_day_passes() {
        let new = Decision::Delay { left: 60, attempt: 1 };
        assert_eq!(Policy::default().decide(60, None, NOW), new);
        assert_eq!(decide(NOW, 1), Decision::Delay { left: 60, attempt: 2 });
        assert_eq!(decide(NOW - 59, 7), Decision::Delay { left: 1, attempt: 8 });
        assert_eq!(decide(NOW - 60, 1), Decision::Pass { waited: 60 });
        assert_eq!(decide(NOW - DAY, 1), Decision::Pass { waited: DAY });
        // "after the end of the window a retry SHOULD be a new message"
        assert_eq!(decide(NOW - DAY - 1, 5), new);
    }

    #[test]
    fn a_clock_that_was_set_back_starts_the_wait_afresh() {
        assert_eq!(decide(NOW + 1, 5), Decision::Delay { left: 60, attempt: 1 });
    }

    #[test]
    fn every_rule_has_its_own_delay() {
        let policy = Policy::default();
        let waiting = Some(Waiting { first: NOW - 100, tries: 1 });
        assert_eq!(policy.decide(0, None, NOW), Decision::Delay { left: 1, attempt: 1 });
        assert_eq!(policy.decide(0, waiting, NOW), Decision::Pass { waited: 100 });
        assert_eq!(policy.decide(300, waiting, NOW), Decision::Delay { left: 200, attempt: 2 });
    }

    // RFC 6647 5 (3): "entries with no recent traffic ... at least one week".
    #[test]
    fn a_known_host_is_known_as_long_as_it_comes() {
        let policy = Policy::default();
        let seen = |last| Known { since: 0, last };
        assert!(policy.knows(seen(NOW - 36 * DAY), NOW));
        assert!(!policy.knows(seen(NOW - 36 * DAY - 1), NOW));
        assert!(policy.knows(seen(NOW + 5), NOW));
        assert!(policy.should_note(Known { since: 0, last: NOW - 3_600 }, NOW));
        assert!(!policy.should_note(Known { since: 0, last: NOW - 3_599 }, NOW));
    }
}
