//! Keys for the tests, made when they run.

use std::fs::{self, File};
use std::process::Command;

use crate::certs::Pair;

/// A new key of this kind and its certificate, in one PEM text.
pub fn pem(kind: &[&str]) -> Vec<u8> {
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-subj", "/CN=mx.test", "-keyout", "-", "-newkey"])
        .args(kind)
        .output()
        .unwrap();
    assert!(openssl.status.success(), "{}", openssl.stderr.escape_ascii());
    openssl.stdout
}

/// One on the curve P-256.
pub fn p256() -> Vec<u8> {
    pem(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
}

/// One of RSA.
pub fn rsa() -> Vec<u8> {
    pem(&["rsa:2048", "-nodes"])
}

/// Opened files that hold this text; the name is the test's own.
pub fn pair(name: &str, certificate: &[u8], key: &[u8]) -> Pair {
    let path = std::env::temp_dir().join(format!("starttls-wrap-{}-{name}", std::process::id()));
    let file = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file
    };
    Pair { certificate: file(certificate), key: file(key) }
}
