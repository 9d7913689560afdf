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
        let rules = left(&format!("refuse {condition}"), "192.0.2.1", Some("Mail.example.net."));
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
    assert!(passes("pass sender @x\npass\nrefuse"));
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

// RFC 6647 5 (6): "large ESPs SHOULD bypass"; by names that are verified, and by no addresses, which change owners.
#[test]
fn the_shipped_rules_know_large_senders_by_their_names() {
    let text = include_str!("../../../examples/greylist.rules");
    let (_, dated) = text.split_once("# Large senders, as of 20").unwrap();
    let date = dated.split_once(' ').unwrap().0;
    assert!(date.split('-').map(str::len).eq([2, 2, 2]), "{date}");
    let names: Vec<&str> =
        dated.lines().filter_map(|line| Some(line.strip_prefix("pass   name ")?.trim())).collect();
    let others = dated.lines().filter(|line| line.starts_with("pass")).count();
    assert!(names.len() == others && others > 30, "by name and nothing else");
    let passes = |name: &str, verified| {
        let client = Client { address: "203.0.113.9".parse().unwrap(), name: Some(name), verified };
        parse(text).for_client(&client, |_| None).always_pass()
    };
    for name in names {
        assert!(crate::network::is_name(name.trim_start_matches('.')), "{name}");
        let machine = if name.starts_with('.') { format!("a-1{name}") } else { name.to_owned() };
        assert!(passes(&machine, true), "{machine}");
        assert!(!passes(&machine, false), "{machine}");
        assert!(!passes(&format!("x{}.example", machine), true), "{machine}");
        let lookalike = format!("x{}", name.trim_start_matches('.'));
        assert!(!passes(&lookalike, true), "{lookalike}");
    }
}
