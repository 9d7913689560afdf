//! What a certificate says, for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The parts of a certificate that matter to an administrator.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary {
    /// The DNS names that it is for (RFC 9525 6.3), or none.
    pub names: Vec<String>,
    /// Whole days until it ends, below 0 once it has.
    pub days_left: i64,
    /// Whether it should have been renewed by now: ACME clients do that when a third of its time is left.
    pub ends_soon: bool,
    /// The day of its end, as YYYY-MM-DD.
    pub expires: String,
    /// Whether it is valid already.
    pub begun: bool,
    /// The SHA-256 of its public key: what a TLSA record 3 1 1 holds (RFC 7671 5.1).
    pub key_digest: String,
    /// Who it is about.
    pub subject: Vec<u8>,
    /// Who vouches for it.
    pub issuer: Vec<u8>,
}

impl Summary {
    /// Reads a certificate in DER; none if it is none.
    pub fn of(der: &[u8], now: SystemTime) -> Option<Summary> {
        let certificate = Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let ends = body.validity().not_after.to_unix_duration();
        let begins = body.validity().not_before.to_unix_duration();
        let key = body.subject_public_key_info().to_der().ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &key);
        Some(Summary {
            names: names(&certificate),
            days_left: days_between(now, ends),
            ends_soon: left(now, ends) < ends.saturating_sub(begins).div_f32(4.0).min(SOON),
            expires: body
                .validity()
                .not_after
                .to_date_time()
                .to_string()
                .chars()
                .take(10)
                .collect(),
            begun: UNIX_EPOCH.checked_add(begins)? <= now,
            key_digest: crate::environment::hex(digest.as_ref()),
            subject: body.subject().to_der().ok()?,
            issuer: body.issuer().to_der().ok()?,
        })
    }
}

fn names(certificate: &Certificate) -> Vec<String> {
    let extension = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let Ok(Some((_critical, names))) = extension else { return Vec::new() };
    let dns = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(plumb::log::value(name.as_str().as_bytes(), 255)),
        _ => None,
    };
    names.0.iter().filter_map(dns).collect()
}

/// The time from now until `end` after 1970, or none.
fn left(now: SystemTime, end: Duration) -> Duration {
    end.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole days from now until `end` after 1970, rounded down.
fn days_between(now: SystemTime, end: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let now = seconds(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    seconds(end).saturating_sub(now).div_euclid(86_400)
}

/// Whoever renews by hand should do it now.
const SOON: Duration = Duration::from_secs(14 * 86_400);
