//! What one client can make the store remember, and that everybody who comes back comes in all the same.

use super::*;
use crate::store::HOST_LIMIT;
use crate::triplet::{Triple, Waiting};

fn crowd(site: &Site) -> Option<Waiting> {
    site.store.0.borrow().waiting.get(&Triple::crowd(HOST)).copied()
}

fn senders(count: usize) -> Vec<String> {
    // Words, since numbers would be normalised away.
    let letter = |n: usize| char::from(b'a' + u8::try_from(n % 26).unwrap());
    (0..count)
        .map(|n| format!("{}{}{}@list.example", letter(n), letter(n / 26), letter(n / 676)))
        .collect()
}

fn tries(senders: &[String]) -> String {
    senders.iter().map(|sender| mail(sender, &["b@y.example"])).collect()
}

// RFC 6647 5 (1): a retry lets the host in; a list that sends for 1,000 members in one session is no exception.
#[test]
fn a_session_fills_no_store_and_a_list_comes_in_when_it_comes_back() {
    let all = senders(1_000);
    for first in [0, 500, 999] {
        let site = Site::new();
        let played = site.play(&tries(&all));
        assert_eq!(played.heard.matches(GREY).count(), 2_000, "{}", played.heard);
        assert_eq!(site.store.0.borrow().waiting.len(), 101);
        assert_eq!(site.store.0.borrow().written, 101);
        assert_eq!(crowd(&site), Some(Waiting { first: NOW, tries: 1 }));
        assert!(site.log().ends_with("left=60 waited=0 attempt=2 key=host store-us=0"));
        assert!(site.log().contains("from=<zlb@list.example> to=<b@y.example> left=60"));
        // Whichever member's mail comes first, remembered or not.
        let early = site.later(59).play(&tries(&all[first..=first]));
        assert!(early.heard.contains("retry=00:00:01"), "{}", early.heard);
        let back: String = all[first..]
            .iter()
            .chain(&all[..first])
            .fold(String::new(), |script, sender| script + &mail(sender, &["b@y.example"]) + BODY);
        let played = site.later(1).play(&back);
        assert_eq!(played.queued.len(), 1_000, "{first}: {}", played.heard);
    }
}

/// Somebody who tries the same again and again in one session makes the store write no more than somebody with many senders.
#[test]
fn a_session_that_repeats_itself_stops_writing() {
    let site = Site::new();
    let again = mail("a@x.example", &["b@y.example"]).repeat(500);
    let played = site.play(&again);
    assert_eq!(played.heard.matches(GREY).count(), 1_000);
    assert_eq!(site.store.0.borrow().written, 100);
    assert_eq!(crowd(&site), None);
}

#[test]
fn a_host_fills_no_store_in_many_sessions() {
    let all = senders(2_000);
    let site = Site::new();
    for (number, some) in all.chunks(50).enumerate() {
        let played = site.later(u64::from(number == 20)).play(&tries(some));
        assert_eq!(played.heard.matches("450 4.7.1").count(), 100);
    }
    let limit = usize::try_from(HOST_LIMIT).unwrap();
    assert_eq!(site.store.0.borrow().waiting.len(), limit + 1);
    // Another host's senders are remembered one by one.
    let other = Triple { host: "198.51.100.0/24".into(), ..Triple::crowd(HOST) };
    let other = Triple { sender: "a@x.example".into(), ..other };
    assert!(crate::store::Store::remember(&mut site.store.clone(), &other, NOW, 0).unwrap());
    // The host's crowd has waited since the first of those who found no room.
    let played = site.later(60).play(&(tries(&all[1_999..]) + BODY));
    assert_eq!(played.queued.len(), 1, "{}", played.heard);
}

/// Bounces are remembered at DATA, and no other way.
#[test]
fn null_senders_are_counted_too() {
    let site = Site::new();
    let bounces: String =
        senders(300).iter().map(|to| mail("", &[&to.replace("list", "y")])).collect();
    let played = site.play(&bounces);
    assert_eq!(played.heard.matches(GREY).count(), 300);
    assert_eq!(site.store.0.borrow().waiting.len(), 101);
    let played = site.later(60).play(&(mail("", &["never@y.example"]) + BODY));
    assert_eq!(played.queued.len(), 1, "{}", played.heard);
}

/// An attempt that is too old begins afresh, and makes no room for another.
#[test]
fn a_crowd_that_is_too_old_begins_afresh() {
    let site = Site::new();
    site.play(&tries(&senders(200)));
    let day = site.later(86_401);
    let played = day.play(&tries(&senders(200)));
    assert_eq!(played.heard.matches(GREY).count(), 400, "{}", played.heard);
    assert_eq!(site.store.0.borrow().waiting.len(), 101);
    assert_eq!(crowd(&site).map(|waiting| waiting.first), Some(NOW + 86_401));
    assert!(!site.log().contains("waited=86401"), "what is too old is not told as waiting");
}
