//! What the fuzzers have found worth keeping, once more.

use std::fs;
use std::path::Path;

#[path = "../../starttls-wrap/src/channel.rs"]
#[allow(dead_code)]
mod channel;

#[path = "../../authcheck/tests/common/property.rs"]
mod login;

#[path = "../../recordio-tls/tests/common/property.rs"]
mod recorder;

fn replay(target: &str, property: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target}: {error}")) {
        property(&fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 10, "{target} has only {replayed} inputs");
}

#[test]
fn lines() {
    replay("lines", wire::properties::lines);
}

#[test]
fn bodies() {
    replay("body", wire::properties::body);
}

#[test]
fn chunks() {
    replay("chunks", wire::properties::chunks);
}

#[test]
fn commands() {
    replay("command", wire::properties::command);
}

#[test]
fn replies() {
    replay("reply", wire::properties::reply);
}

#[test]
fn paths() {
    replay("paths", wire::properties::paths);
}

#[test]
fn dialogues() {
    replay("dialogue", wire::properties::dialogue);
}

#[test]
fn channel_messages() {
    replay("channel", |input| _ = channel::decodes_to_itself(input));
}

#[test]
fn recorded_sessions() {
    replay("recorder", recorder::holds_for);
}

#[test]
fn logins() {
    replay("login", login::holds_for);
}
