//! What the project says of itself, compared with what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chain_tests::programs;

#[derive(Debug, Default)]
struct Package {
    version: String,
    foreign: bool,
    needs: BTreeSet<String>,
}

fn read(name: &str) -> String {
    let path = root(name);
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

#[test]
fn the_parser_does_no_io() {
    let doors = ["std::env", "std::fs", "std::io", "std::os", "std::process", "std::thread"];
    let doors = [&doors[..], &["std::time", "TcpStream", "ToSocketAddrs", "UdpSocket"]].concat();
    let sources = sources();
    let of_wire = sources.iter().filter(|(path, _)| path.starts_with(root("lib/wire")));
    assert!(of_wire.clone().count() > 5);
    for (path, text) in of_wire {
        for door in &doors {
            assert!(!text.contains(door), "{}: {door}", path.display());
        }
    }
}

#[test]
fn the_tests_that_documents_name_exist() {
    let sources = sources();
    let tests: BTreeSet<&str> = sources.iter().flat_map(|(_, text)| tests_of(text)).collect();
    assert!(tests.contains("the_tests_that_documents_name_exist"));
    for document in ["ARCHITECTURE.md", "SECURITY.md"] {
        let text = read(document);
        let named: Vec<&str> = in_backquotes(&text).filter(|name| is_test_name(name)).collect();
        assert!(named.len() > 10, "{document} names only {named:?}");
        for name in named {
            assert!(tests.contains(name), "{document}: there is no test {name}");
        }
    }
}

#[test]
fn the_programs_of_the_readme_are_those_of_the_workspace() {
    let readme = read("README.md");
    let rows = table(&readme, "program");
    let named: BTreeSet<String> = rows.iter().map(|row| row[0].replace('`', "")).collect();
    assert_eq!(named, programs_of_the_workspace());
    for row in rows {
        let page = page_of(&row[0].replace('`', ""));
        let page = page.file_name().and_then(|name| name.to_str());
        let written = row[2].replace('(', ".").replace(')', "");
        assert_eq!(Some(written.as_str()), page, "the manual of {}", row[0]);
    }
}

// The options of a manual page's SYNOPSIS are those of the usage that the program prints.
#[test]
fn manual_pages_and_programs_know_the_same_options() {
    for program in programs_of_the_workspace() {
        let page = page_of(&program);
        let refused = Command::new(programs::folder().join(&program))
            .args(["--no-such-option", "x"])
            .output()
            .expect("run a program");
        assert_eq!(refused.status.code(), Some(100), "{program}: wrong usage");
        let errors = String::from_utf8(refused.stderr).expect("text");
        let (_, usage) =
            errors.split_once("usage: ").unwrap_or_else(|| panic!("{program} {errors}"));
        let usage = usage.split([';', '\n']).next().unwrap_or_default();
        let manual = fs::read_to_string(&page).expect("read a manual page");
        assert_eq!(synopsis_options(&manual), usage_options(usage), "{}", page.display());
    }
}

#[test]
fn documents_are_short() {
    for (document, limit) in [("README.md", 120), ("ARCHITECTURE.md", 150)] {
        let lines = read(document).lines().count();
        assert!(lines <= limit, "{document} has {lines} lines");
    }
}

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Every file of Rust in the tree, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root("")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read a folder") {
            let path = entry.expect("read a folder").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("read a source");
                found.push((path, text));
            }
        }
    }
    found
}

/// The names of the functions below `#[test]`.
fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[test]").skip(1).filter_map(|after| {
        let (_, name) = after.split_once("fn ")?;
        name.split_once('(').map(|(name, _)| name)
    })
}

fn in_backquotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether it is written as this project's tests are: words of small letters, at least two.
fn is_test_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    text.contains('_') && text.bytes().all(plain)
}

/// The cells of the table whose first column has this head.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {head} |")));
    rows.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// The programs that are built, but for those of lib, benches and tests.
fn programs_of_the_workspace() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").expect("members");
    let members = members.split(']').next().unwrap_or_default();
    let folders = members.split('"').skip(1).step_by(2);
    let folders =
        folders.filter(|name| !(name.starts_with("lib/") || ["benches", "tests"].contains(name)));
    let mut programs = BTreeSet::new();
    for folder in folders {
        if root(folder).join("src/main.rs").exists() {
            programs.insert(folder.to_owned());
        }
        for entry in fs::read_dir(root(folder).join("src/bin")).into_iter().flatten() {
            let path = entry.expect("read src/bin").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            programs.insert(name.to_owned());
        }
    }
    programs
}

/// The manual page of a program, which lies in one of the folders at the top.
fn page_of(program: &str) -> PathBuf {
    let folders = fs::read_dir(root("")).expect("read the root");
    let mut pages = folders.flat_map(|folder| {
        let folder = folder.expect("read the root").path();
        ["1", "8"].map(|section| folder.join(format!("{program}.{section}")))
    });
    pages.find(|page| page.exists()).unwrap_or_else(|| panic!("{program} has no manual page"))
}

/// `-x` of each letter, and `--word`, of the usage that a program prints.
fn usage_options(usage: &str) -> BTreeSet<String> {
    let words = usage.split([' ', '[', ']', '|', '=']);
    words.filter_map(|word| word.strip_prefix('-')).flat_map(options).collect()
}

/// The same of the SYNOPSIS, where options stand behind the macro Fl.
fn synopsis_options(page: &str) -> BTreeSet<String> {
    let (_, synopsis) = page.split_once(".Sh SYNOPSIS\n").expect("a SYNOPSIS");
    let synopsis = synopsis.split(".Sh ").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in synopsis.lines() {
        for flags in line.trim_start_matches('.').split("Fl ").skip(1) {
            let words = flags.split(' ').take_while(|word| !is_macro(word));
            found.extend(words.filter(|word| *word != "|").flat_map(options));
        }
    }
    found
}

fn options(word: &str) -> Vec<String> {
    match word.strip_prefix('-') {
        Some(word) => vec![format!("--{word}")],
        None => word.chars().map(|letter| format!("-{letter}")).collect(),
    }
}

/// mdoc's macros have two letters, the first of which is a capital.
fn is_macro(word: &str) -> bool {
    word.len() == 2 && word.starts_with(|letter: char| letter.is_ascii_uppercase())
}
