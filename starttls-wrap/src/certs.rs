//! Where certificates lie: CERTFILE and KEYFILE, and folders as certbot, acme.sh and lego keep them.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use plumb::{Doing, Error, Result};

use crate::renewal::Renewal;

/// The paths that the environment names.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// CERTFILE.
    pub certificate: Option<OsString>,
    /// KEYFILE, or CERTFILE where that holds both.
    pub key: Option<OsString>,
    /// CERTDIR.
    pub folder: Option<OsString>,
}

/// A certificate file and a key file, opened and not yet read.
#[derive(Debug)]
pub struct Pair {
    /// The chain, and perhaps the key.
    pub certificate: File,
    /// The key.
    pub key: File,
}

impl Paths {
    /// The three variables.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Paths {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let certificate = set("CERTFILE");
        let key = set("KEYFILE").or_else(|| certificate.clone());
        Paths { certificate, key, folder: set("CERTDIR") }
    }

    /// Opens CERTFILE and KEYFILE.
    ///
    /// # Errors
    /// Which of them is not set or cannot be opened.
    pub fn open_default(&self) -> Result<Pair> {
        Ok(Pair {
            certificate: open_variable("CERTFILE", self.certificate.as_deref())?,
            key: open_variable("KEYFILE", self.key.as_deref())?,
        })
    }

    /// The files of that pair.
    pub fn of_default(&self) -> Vec<PathBuf> {
        self.certificate.iter().chain(&self.key).map(PathBuf::from).collect()
    }

    /// Opens what CERTDIR has for a name, best first; `trouble` is told of files that are there and cannot be opened.
    /// None where that was done before and would find nothing else now.
    pub fn open_for(
        &self,
        name: &[u8],
        again: bool,
        renewal: &mut Renewal,
        trouble: impl FnMut(Error),
    ) -> Option<Vec<Pair>> {
        let (Some(folder), Some(name)) = (&self.folder, host_name(name)) else {
            return (!again).then(Vec::new);
        };
        let candidates = candidates(Path::new(folder), &name);
        let files: Vec<PathBuf> =
            candidates.iter().flat_map(|(certificate, key)| [certificate, key]).cloned().collect();
        if again && !renewal.wait(&files) {
            return None;
        }
        let mut found = open_all(&candidates);
        while !found.whole && renewal.wait(&files) {
            found = open_all(&candidates);
        }
        found.troubles.into_iter().for_each(trouble);
        Some(found.pairs)
    }
}

impl Paths {
    /// Every certificate file and key file that CERTDIR holds, by its layouts.
    ///
    /// # Errors
    /// That the folder cannot be read.
    pub fn list(&self) -> Result<Vec<(PathBuf, PathBuf)>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let entries = fs::read_dir(folder).doing(format!("read {}", folder.display()))?;
        let mut found: Vec<_> =
            entries.flatten().filter_map(|entry| listed(&entry.path())).collect();
        found.sort();
        Ok(found)
    }

    /// Whether this certificate of CERTDIR is among those that are looked at for a name.
    pub fn leads(&self, name: &str, certificate: &Path) -> bool {
        let name = host_name(name.replace('*', "host").as_bytes());
        let (Some(folder), Some(name)) = (&self.folder, name) else { return false };
        candidates(Path::new(folder), &name).iter().any(|(found, _)| found == certificate)
    }
}

/// The pair that a folder or a file in CERTDIR stands for.
fn listed(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix("_ecc").unwrap_or(name);
    let in_folder = [
        (path.join("fullchain.pem"), path.join("privkey.pem")),
        (path.join("fullchain.cer"), path.join(format!("{stem}.key"))),
    ];
    let lego = name.strip_suffix(".crt").filter(|stem| !stem.ends_with(".issuer"));
    let lego = lego.map(|stem| (path.to_owned(), path.with_file_name(format!("{stem}.key"))));
    in_folder.into_iter().chain(lego).find(|(certificate, _)| certificate.is_file())
}

/// Opens a file for reading; of a named pipe that nobody writes to, this is the end and no waiting.
///
/// # Errors
/// Those of open(2).
pub fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

fn open_variable(name: &str, path: Option<&OsStr>) -> Result<File> {
    let path = path.ok_or_else(|| Error::temporary(format!("{name} is not set")))?;
    open(path.as_ref()).doing(format!("open {}", path.display()))
}

/// What one look into CERTDIR has given.
#[derive(Default)]
struct Found {
    pairs: Vec<Pair>,
    troubles: Vec<Error>,
    /// There was no certificate without its key, and no key without its certificate.
    whole: bool,
}

fn open_all(candidates: &[(PathBuf, PathBuf)]) -> Found {
    let mut found = Found { whole: true, ..Found::default() };
    for (certificate, key) in candidates {
        let mut open = |path: &Path| match open(path) {
            Ok(file) => Some(file),
            Err(error) if ABSENT.contains(&error.kind()) => None,
            Err(error) => {
                found.troubles.push(Error::unable(format!("open {}", path.display()), &error));
                None
            }
        };
        match (open(certificate), open(key)) {
            (Some(certificate), Some(key)) => found.pairs.push(Pair { certificate, key }),
            (None, None) => {}
            _ => found.whole = false,
        }
    }
    found
}

/// A name fit to be part of a path: labels of a-z, 0-9, - and _, in small letters, one final dot off.
pub fn host_name(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
    let label = |label: &[u8]| {
        (1..=LABEL_LIMIT).contains(&label.len())
            && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let good = name.len() <= NAME_LIMIT && name.split(|&byte| byte == b'.').all(label);
    good.then(|| String::from_utf8(name).ok()).flatten()
}

/// Where a certificate for this name may lie, with its key; ECDSA before RSA where a layout tells them apart.
fn candidates(folder: &Path, name: &str) -> Vec<(PathBuf, PathBuf)> {
    let parent = name.split_once('.').map(|(_, parent)| parent);
    let mut found = Vec::new();
    for stem in [Some(name), parent].into_iter().flatten() {
        for certbot in [stem.to_owned(), format!("{stem}-0001")] {
            found.push((format!("{certbot}/fullchain.pem"), format!("{certbot}/privkey.pem")));
        }
        found.extend(acme_sh(stem));
        found.push((format!("{stem}.crt"), format!("{stem}.key")));
    }
    if let Some(parent) = parent {
        found.extend(acme_sh(&format!("*.{parent}")));
        found.push((format!("_.{parent}.crt"), format!("_.{parent}.key")));
    }
    let join =
        |(certificate, key)| (folder.join::<String>(certificate), folder.join::<String>(key));
    found.into_iter().map(join).collect()
}

fn acme_sh(stem: &str) -> [(String, String); 2] {
    ["_ecc", ""].map(|suffix| {
        (format!("{stem}{suffix}/fullchain.cer"), format!("{stem}{suffix}/{stem}.key"))
    })
}

/// What a name that has no certificate gives; the last where a client asks for one of 253 bytes.
const ABSENT: [io::ErrorKind; 3] =
    [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::InvalidFilename];
/// RFC 1035 2.3.4, without the final dot.
const NAME_LIMIT: usize = 253;
/// RFC 1035 2.3.4.
const LABEL_LIMIT: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    // DESIGN 5: the monitor accepts as SNI only labels of [a-z0-9_-], lower-cased, one final dot off.
    #[test]
    fn names_that_may_be_part_of_a_path() {
        let long = [b'a'; 63];
        let longest = [&long[..], &long, &long, &[b'a'; 61]].join(&b'.');
        assert_eq!(longest.len(), 253);
        for (name, good) in [
            (&b"mx.Example.ORG"[..], Some("mx.example.org")),
            (b"mx.example.org.", Some("mx.example.org")),
            (b"_dmarc.x-y.org", Some("_dmarc.x-y.org")),
            (b"localhost", Some("localhost")),
            (b"mx.example.org..", None),
            (b"", None),
            (b".", None),
            (b"../etc", None),
            (b"a/b", None),
            (b"a\0b", None),
            (b"*.example.org", None),
            (b"a..b", None),
            (b".a", None),
            (b"caf\xc3\xa9.example", None),
        ] {
            assert_eq!(host_name(name).as_deref(), good, "{}", name.escape_ascii());
        }
        assert!(host_name(&longest).is_some());
        assert!(host_name(&[&longest[..], b"a"].concat()).is_none());
        assert!(host_name(&[b'a'; 64]).is_none());
    }

    // DESIGN 5: certbot (wildcards under the base name), acme.sh (name_ecc and name), lego (flat, _.name.crt).
    #[test]
    fn every_layout_is_looked_into() {
        let paths: Vec<String> = candidates(Path::new("/c"), "mx.example.org")
            .iter()
            .map(|(certificate, key)| format!("{} {}", certificate.display(), key.display()))
            .collect();
        for expected in [
            "/c/mx.example.org/fullchain.pem /c/mx.example.org/privkey.pem",
            "/c/example.org/fullchain.pem /c/example.org/privkey.pem",
            "/c/mx.example.org_ecc/fullchain.cer /c/mx.example.org_ecc/mx.example.org.key",
            "/c/mx.example.org/fullchain.cer /c/mx.example.org/mx.example.org.key",
            "/c/*.example.org_ecc/fullchain.cer /c/*.example.org_ecc/*.example.org.key",
            "/c/mx.example.org.crt /c/mx.example.org.key",
            "/c/_.example.org.crt /c/_.example.org.key",
        ] {
            assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:#?}");
        }
        assert!(paths.len() * 2 <= plumb::fds::DESCRIPTORS_MAX, "they fit one packet");
    }
}
