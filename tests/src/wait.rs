//! Waiting for a condition, never for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything on this machine may take before it counts as hung: far above a loaded machine's slowest step.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(4);

/// Looks until `condition` gives a value; panics, naming `what`, after [`DEADLINE`].
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, condition).unwrap_or_else(|| panic!("still waiting for {what}"))
}

/// Looks until `condition` gives a value or `limit` has passed.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let last_look = Instant::now() >= end;
        match condition() {
            Some(value) => return Some(value),
            None if last_look => return None,
            None => sleep(STEP),
        }
    }
}
