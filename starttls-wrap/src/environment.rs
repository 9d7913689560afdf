//! The environment of the programs: the wrapper's own settings taken out, the facts of TLS put in.

use std::ffi::{OsStr, OsString};

use crate::channel::Facts;
use crate::policy::Policy;

/// What to change for a program: a value to set, or none to take the variable away.
pub type Changes = Vec<(OsString, Option<OsString>)>;

/// The changes for a program in clear, or inside TLS where there are facts of it.
pub fn changes(
    names: impl Iterator<Item = OsString>,
    policy: &Policy,
    facts: Option<&Facts>,
) -> Changes {
    let mut changes: Changes =
        names.filter(|name| is_ours(name)).map(|name| (name, None)).collect();
    let mut set = |name: &str, value: &str| changes.push((name.into(), Some(value.into())));
    // Patched smtpds must neither offer TLS nor ask for it themselves.
    set("DENY_TLS", "1");
    set("DISABLETLS", "1");
    set("FORCETLS", "0");
    // A kept program goes on inside TLS; in clear the wrapper itself stands before its AUTH.
    if policy.allows_auth(facts.is_some() || policy.keep) {
        set("ALLOW_INSECURE_AUTH", "1");
    }
    if let Some(facts) = facts {
        set("SSL", "1");
        for (name, value) in facts.variables() {
            if is_shown(&value) {
                set(name, &value);
            }
        }
    }
    changes
}

/// Whether a variable from outside must not reach the program: it is the wrapper's, or would lie about TLS.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    OURS.contains(&name) || name.starts_with("SSL_") && !KEPT.contains(&name)
}

/// Printable ASCII of at most 512 bytes, and not nothing.
fn is_shown(value: &str) -> bool {
    (1..=512).contains(&value.len()) && value.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

impl Facts {
    /// The variables that tell of the handshake, by mod_ssl's and s6's names.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let resumed = if self.resumed { "Resumed" } else { "Initial" };
        vec![
            ("SSL_PROTOCOL", protocol(self.version).to_owned()),
            ("SSL_CIPHER", cipher(self.suite).to_owned()),
            ("SSL_KEX_GROUP", group(self.group).to_owned()),
            ("SSL_TLS_SNI_SERVERNAME", String::from_utf8(self.name.clone()).unwrap_or_default()),
            ("SSL_SESSION_RESUMED", resumed.to_owned()),
            ("SSL_TLS_EXPORTER", hex(&self.exporter)),
        ]
    }

    /// The same for the log.
    pub fn log_line(&self) -> String {
        format!(
            "version={} cipher={} group={} sni={} resumed={}",
            protocol(self.version),
            cipher(self.suite),
            group(self.group),
            plumb::log::value(&self.name, 255),
            if self.resumed { "yes" } else { "no" },
        )
    }
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn protocol(version: u16) -> &'static str {
    match version {
        0x0304 => "TLSv1.3",
        0x0303 => "TLSv1.2",
        _ => "",
    }
}

/// OpenSSL's names, which logs and headers know.
fn cipher(suite: u16) -> &'static str {
    match suite {
        0x1301 => "TLS_AES_128_GCM_SHA256",
        0x1302 => "TLS_AES_256_GCM_SHA384",
        0x1303 => "TLS_CHACHA20_POLY1305_SHA256",
        0xc02b => "ECDHE-ECDSA-AES128-GCM-SHA256",
        0xc02c => "ECDHE-ECDSA-AES256-GCM-SHA384",
        0xc02f => "ECDHE-RSA-AES128-GCM-SHA256",
        0xc030 => "ECDHE-RSA-AES256-GCM-SHA384",
        0xcca8 => "ECDHE-RSA-CHACHA20-POLY1305",
        0xcca9 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        _ => "",
    }
}

fn group(number: u16) -> &'static str {
    match number {
        23 => "secp256r1",
        24 => "secp384r1",
        29 => "X25519",
        0x11ec => "X25519MLKEM768",
        _ => "",
    }
}

/// Read here and by nobody behind; those of other terminators and of UCSPI-TLS; and what makes a patched smtpd (sagredo's, qmail-ldap,
/// indimail's) begin with TLS of its own or claim that there is some.
const OURS: [&str; 20] = [
    "CERTFILE",
    "KEYFILE",
    "CERTDIR",
    "CAFILE",
    "TICKETKEYS",
    "TLS_UID",
    "TLS_GID",
    "KEY_UID",
    "KEY_GID",
    "FORCE_TLS",
    "ALLOW_INSECURE_AUTH",
    "UCSPITLS",
    "SSL",
    "SSLCTLFD",
    "SSLREADFD",
    "SSLWRITEFD",
    "SMTPS",
    "STARTTLS",
    "SSLCERT",
    "TLS_PROVIDER",
];
/// OpenSSL's own, for programs that are TLS clients.
const KEPT: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const OUTSIDE: &str = "PATH=/bin TCPREMOTEIP=192.0.2.1 CERTFILE=c KEYFILE=k CERTDIR=d CAFILE=a \
        TICKETKEYS=t TLS_UID=1 TLS_GID=1 KEY_UID=2 KEY_GID=2 FORCE_TLS=0 UCSPITLS=! SSL=0 \
        SSLCTLFD=3 SSLREADFD=4 SSLWRITEFD=5 SSL_CERT_FILE=f SSL_CERT_DIR=g SSL_CLIENT_S_DN=lie \
        SSL_SESSION_ID=x RECORDIO_UID=3 REQUIRE_AUTH=0 ALLOW_INSECURE_AUTH=0 FORCETLS=1 \
        SMTPS=1 STARTTLS= SSLCERT=s TLS_PROVIDER=p";

    fn seen(facts: Option<&Facts>) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = OUTSIDE
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let policy = Policy::from_environment(|_| None, false).unwrap();
        let names: Vec<OsString> = variables.keys().map(OsString::from).collect();
        for (name, value) in changes(names.into_iter(), &policy, facts) {
            let name = name.into_string().unwrap();
            match value {
                Some(value) => variables.insert(name, value.into_string().unwrap()),
                None => variables.remove(&name),
            };
        }
        variables
    }

    // DESIGN 3: what a program gets before the handshake.
    #[test]
    fn in_clear_nothing_of_tls_is_left() {
        let names: Vec<String> = seen(None).into_iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(
            names.join(" "),
            "DENY_TLS=1 DISABLETLS=1 FORCETLS=0 PATH=/bin RECORDIO_UID=3 REQUIRE_AUTH=0 \
             SSL_CERT_DIR=g SSL_CERT_FILE=f TCPREMOTEIP=192.0.2.1"
        );
    }

    // DESIGN 3: SSL_* after it, from typed fields, printable ASCII of at most 512 bytes only.
    #[test]
    fn inside_tls_the_facts_are_told() {
        let mut facts = Facts {
            version: 0x0304,
            suite: 0x1302,
            group: 29,
            name: b"mx.example.org".to_vec(),
            resumed: false,
            exporter: vec![0xab; 32],
        };
        let variables = seen(Some(&facts));
        let told = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(told("SSL"), Some("1"));
        assert_eq!(told("SSL_PROTOCOL"), Some("TLSv1.3"));
        assert_eq!(told("SSL_CIPHER"), Some("TLS_AES_256_GCM_SHA384"));
        assert_eq!(told("SSL_KEX_GROUP"), Some("X25519"));
        assert_eq!(told("SSL_TLS_SNI_SERVERNAME"), Some("mx.example.org"));
        assert_eq!(told("SSL_SESSION_RESUMED"), Some("Initial"));
        assert_eq!(told("SSL_TLS_EXPORTER"), Some("ab".repeat(32).as_str()));
        assert_eq!(told("ALLOW_INSECURE_AUTH"), Some("1"));
        assert_eq!(told("SSL_CLIENT_S_DN"), None);
        facts.name = b"evil\nSSL_CLIENT_S_DN=x".to_vec();
        assert_eq!(seen(Some(&facts)).get("SSL_TLS_SNI_SERVERNAME"), None);
    }
}
