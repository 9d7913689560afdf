//! `--check`: what would be served, and what is wrong with it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plumb::Doing;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::certificate::Summary;
use crate::certs::{self, Pair, Paths};
use crate::key_pair::{self, KeyPair};

/// What was found out about one certificate and its key.
#[derive(Debug, Default)]
pub struct Finding {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// What the certificate says, if it can be read.
    pub summary: Option<Summary>,
    /// `ECDSA`, `ED25519` or `RSA`.
    pub algorithm: String,
    /// Whether a client can find its way to a root it knows.
    pub chain: String,
    /// What must be mended.
    pub problems: Vec<String>,
}

impl Finding {
    /// The records that tell other servers which key to expect (RFC 7672, RFC 7671 5.1).
    pub fn tlsa(&self) -> Vec<String> {
        let Some(summary) = &self.summary else { return Vec::new() };
        let record = |name: &String| {
            // A wildcard is no owner of such a record: each host has its own.
            let host = name.strip_prefix('*').map_or_else(|| name.clone(), |n| format!("HOST{n}"));
            format!("_25._tcp.{host}. IN TLSA 3 1 1 {}", summary.key_digest)
        };
        summary.names.iter().map(record).collect()
    }
}

/// Looks at every certificate that could be served; `needed` where nobody gets TLS without CERTFILE.
pub fn findings(paths: &Paths, needed: bool, now: SystemTime) -> Vec<Finding> {
    let roots = roots();
    let examined = |(certificate, key)| {
        let mut finding = Finding { certificate, key, ..Finding::default() };
        finding.examine(&roots, now);
        finding
    };
    let default = match (&paths.certificate, &paths.key) {
        (Some(certificate), Some(key)) => vec![examined((certificate.into(), key.into()))],
        _ if needed => vec![problem("CERTFILE is not set")],
        _ => Vec::new(),
    };
    let mut by_name: Vec<Finding> = match paths.list() {
        Ok(listed) => listed.into_iter().map(examined).collect(),
        Err(error) => vec![problem(error.to_string())],
    };
    report_hidden_names(paths, &default, &mut by_name);
    default.into_iter().chain(by_name).collect()
}

/// What is wrong, and with no certificate.
pub fn problem(what: impl Into<String>) -> Finding {
    Finding { problems: vec![what.into()], ..Finding::default() }
}

/// A certificate for several names lies under one of them, and nobody finds it by the others.
fn report_hidden_names(paths: &Paths, default: &[Finding], by_name: &mut [Finding]) {
    let default = default.iter().flat_map(Finding::names).cloned();
    let found = by_name.iter().flat_map(|finding| {
        finding.names().filter(|name| paths.leads(name, &finding.certificate)).cloned()
    });
    let served: HashSet<String> = default.chain(found).collect();
    for finding in by_name {
        let hidden: Vec<String> =
            finding.names().filter(|name| !served.contains(*name)).cloned().collect();
        finding.problems.extend(hidden.iter().map(|name| {
            format!("a client that asks for {name} is not shown it: it lies under another name")
        }));
    }
}

impl Finding {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.summary.iter().flat_map(|summary| &summary.names)
    }

    fn examine(&mut self, roots: &[Vec<u8>], now: SystemTime) {
        self.examine_modes();
        match open(&self.certificate, &self.key).and_then(KeyPair::read) {
            Ok(pair) => self.algorithm = format!("{:?}", pair.algorithm()),
            Err(error) => self.problems.push(error.to_string()),
        }
        let Ok(text) =
            certs::open(&self.certificate).doing("open it").and_then(key_pair::read_certificate)
        else {
            return;
        };
        let certificates = CertificateDer::pem_slice_iter(&text).flatten();
        let chain: Vec<Summary> = certificates.filter_map(|der| Summary::of(&der, now)).collect();
        match broken_link(&chain, roots) {
            None => self.chain = format!("complete, {} certificates", chain.len()),
            Some(link) => self.chain = link,
        }
        if self.chain.starts_with(INCOMPLETE) {
            self.problems.push(format!("chain {}", self.chain));
        }
        self.summary = chain.into_iter().next();
        self.problems.extend(self.summary.iter().flat_map(troubles));
    }

    fn examine_modes(&mut self) {
        let Ok(status) = fs::metadata(&self.key) else { return };
        let us = nix::unistd::geteuid().as_raw();
        if status.uid() != 0 && status.uid() != us {
            self.problems.push(format!("the key belongs to uid {}", status.uid()));
        }
        if status.mode() & 0o027 != 0 {
            let mode = status.mode() & 0o777;
            self.problems.push(format!("the key has mode {mode:04o}, 0640 is the most it needs"));
        }
        if let Some(folder) = open_folder(&self.key) {
            self.problems.push(format!("anybody can replace what lies in {}", folder.display()));
        }
    }
}

/// A folder on the way to this file, or to what its links lead to, where anybody can rename what is not his.
fn open_folder(file: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(file).ok();
    let folders = [Some(file), real.as_deref()];
    let mut folders = folders.into_iter().flatten().flat_map(|path| path.ancestors().skip(1));
    let is_open =
        |folder: &&Path| fs::metadata(folder).is_ok_and(|status| status.mode() & 0o1002 == 0o002);
    folders.find(is_open).map(Path::to_owned)
}

/// What is wrong with the certificate itself.
fn troubles(summary: &Summary) -> Vec<String> {
    let mut troubles = Vec::new();
    if summary.days_left < 0 {
        troubles.push(format!("expired on {}", summary.expires));
    } else if summary.ends_soon {
        troubles.push(format!("expires in {} days: was it not renewed?", summary.days_left));
    }
    if !summary.begun {
        troubles.push("not valid yet".to_owned());
    }
    if summary.names.is_empty() {
        troubles.push("no DNS name in it: no client that checks can accept it".to_owned());
    }
    troubles
}

/// Where the way to a root ends, if it does not lead there.
fn broken_link(chain: &[Summary], roots: &[Vec<u8>]) -> Option<String> {
    let last = chain.last()?;
    if let [only] = chain
        && only.issuer == only.subject
    {
        return Some("self-signed".to_owned());
    }
    for (one, next) in chain.iter().zip(chain.iter().skip(1)) {
        if one.issuer != next.subject {
            return Some(format!("{INCOMPLETE}: a certificate does not follow its issuer"));
        }
    }
    if last.issuer == last.subject || roots.contains(&last.issuer) {
        return None;
    }
    match roots.is_empty() {
        true => Some("not followed: this machine knows no roots".to_owned()),
        false => Some(format!("{INCOMPLETE}: an intermediate certificate is missing")),
    }
}

/// The subjects of the roots that this machine knows.
fn roots() -> Vec<Vec<u8>> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = || ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(file) = named.or_else(known) else { return Vec::new() };
    let Ok(certificates) = CertificateDer::pem_file_iter(file) else { return Vec::new() };
    let now = SystemTime::now();
    certificates.flatten().filter_map(|der| Some(Summary::of(&der, now)?.subject)).collect()
}

fn open(certificate: &Path, key: &Path) -> plumb::Result<Pair> {
    let open = |path: &Path| certs::open(path).doing(format!("open {}", path.display()));
    Ok(Pair { certificate: open(certificate)?, key: open(key)? })
}

const INCOMPLETE: &str = "incomplete";
/// Where Debian, Alpine and Arch keep them, Fedora, openSUSE, and the BSDs.
const ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
