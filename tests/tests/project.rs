//! What the project says of itself, compared with what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[derive(Debug, Default)]
struct Package {
    version: String,
    foreign: bool,
    needs: BTreeSet<String>,
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Cargo.lock, by the names of its packages (of two versions the later one stays).
fn lock() -> BTreeMap<String, Package> {
    let lock = read("Cargo.lock");
    let packages = lock.split("[[package]]").skip(1).map(|text| {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.map(|line| line.trim_end_matches('"').to_owned())
        };
        let needs =
            text.lines().filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next());
        let package = Package {
            version: value("version").expect("a version"),
            foreign: value("source").is_some(),
            needs: needs.map(str::to_owned).collect(),
        };
        (value("name").expect("a name"), package)
    });
    packages.collect()
}

#[test]
fn every_dependency_stands_in_the_table_with_its_version() {
    let lock = lock();
    let table = read("DEPENDENCIES.md");
    let rows: BTreeMap<_, _> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(name, rest)| Some((name, rest.split(" |").next()?)))
        .filter(|(name, _)| *name != "crate")
        .collect();
    let ours = lock.values().filter(|package| !package.foreign);
    let named: BTreeSet<_> =
        ours.flat_map(|package| &package.needs).filter(|name| lock[*name].foreign).collect();
    assert!(named.contains(&"nix".to_owned()), "no dependency found: {named:?}");
    for name in named {
        assert!(rows.contains_key(name.as_str()), "DEPENDENCIES.md has no row for {name}");
    }
    for (name, version) in rows {
        let package = lock
            .get(name)
            .unwrap_or_else(|| panic!("DEPENDENCIES.md: {name} is not in Cargo.lock"));
        let found = format!("{}.", package.version);
        assert!(
            found.starts_with(&format!("{version}.")),
            "DEPENDENCIES.md: {name} {version}, Cargo.lock: {found}"
        );
    }
}

#[test]
fn tls_has_one_home_and_the_parser_no_dependency() {
    for (name, package) in lock() {
        let tls = package.needs.iter().any(|need| need == "rustls" || need == "ring");
        let allowed = package.foreign || name == "starttls-wrap" || name == "chain-tests";
        assert!(allowed || !tls, "{name} links TLS");
        assert!(name != "wire" || package.needs.is_empty(), "wire needs {:?}", package.needs);
    }
}
