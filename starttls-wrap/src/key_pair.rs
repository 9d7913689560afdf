//! A private key with its certificate chain: read, checked, and used to sign.

use std::fs::File;
use std::io::Read;
use std::time::SystemTime;

use plumb::{Doing, Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use webpki::EndEntityCert;
use zeroize::{Zeroize, Zeroizing};

use crate::certificate::Summary;
use crate::certs::Pair;
use crate::channel::{CHAIN_LIMIT, MESSAGE_LIMIT};
use crate::tls::provider;

/// A key and the chain that it belongs to.
#[derive(Debug)]
pub struct KeyPair {
    certified: CertifiedKey,
}

impl KeyPair {
    /// Reads and checks both files.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn read(files: Pair) -> Result<KeyPair> {
        let chain = read_certificate(files.certificate)?;
        let mut key = read(files.key, "the key file")?;
        let pair = KeyPair::parse(&chain, &key);
        key.zeroize();
        pair
    }

    /// Takes both texts apart.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn parse(chain: &[u8], key: &[u8]) -> Result<KeyPair> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| Error::temporary(format!("the certificate file: {error}")))?;
        if chain.is_empty() {
            return Err(Error::temporary("the certificate file: no certificate"));
        }
        let size: usize = chain.iter().map(|der| der.len()).sum();
        if chain.len() > CHAIN_LIMIT || size > CHAIN_SIZE_LIMIT {
            return Err(Error::temporary("the certificate file: a chain too long for a handshake"));
        }
        if is_encrypted(key) {
            return Err(Error::temporary("the key file is encrypted, and nobody can be asked"));
        }
        let mut key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::temporary(format!("the key file: {error}")))?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&key);
        key.zeroize();
        let signing =
            signing.map_err(|error| Error::temporary(format!("the key file: {error}")))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => Ok(KeyPair { certified }),
            Err(error) => Err(Error::temporary(format!("key and certificate: {error}"))),
        }
    }

    /// Whether the certificate is for this name (RFC 9525 6.3).
    pub fn is_for(&self, name: &str) -> bool {
        let leaf = self.certified.cert.first().and_then(|der| EndEntityCert::try_from(der).ok());
        let name = ServerName::try_from(name).ok();
        leaf.zip(name)
            .is_some_and(|(leaf, name)| leaf.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// Whether the certificate has begun and not ended.
    pub fn is_in_time(&self) -> bool {
        let leaf = self.certified.cert.first();
        let summary = leaf.and_then(|der| Summary::of(der, SystemTime::now()));
        summary.is_some_and(|summary| summary.begun && summary.days_left >= 0)
    }

    /// What kind of key it is.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.signing_key().algorithm()
    }

    /// The schemes that the key can sign by, of those offered, best first.
    pub fn schemes(&self, offered: &[u16]) -> Vec<u16> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
            .into_iter()
            .filter(|&scheme| offered.contains(&scheme.into()) && self.signs_by(scheme))
            .map(u16::from)
            .collect()
    }

    /// The chain in DER, the server's own certificate first.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.certified.cert.iter().map(|der| der.to_vec()).collect()
    }

    fn signs_by(&self, scheme: SignatureScheme) -> bool {
        self.signing_key().choose_scheme(&[scheme]).is_some()
    }

    /// Signs; none by a scheme that the key has not.
    pub fn sign(&self, scheme: u16, message: &[u8]) -> Option<Vec<u8>> {
        let signer = self.signing_key().choose_scheme(&[SignatureScheme::from(scheme)])?;
        signer.sign(message).ok()
    }

    fn signing_key(&self) -> &dyn SigningKey {
        self.certified.key.as_ref()
    }
}

/// PKCS #8 says so in the first line (RFC 7468 11), the older form in a header (RFC 1421 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    let marks: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED"];
    pem.split(|&byte| byte == b'\n').any(|line| marks.contains(&line.trim_ascii()))
}

/// Reads a certificate file, as much as there may be.
///
/// # Errors
/// Those of read(2), or that it is too large.
pub fn read_certificate(file: File) -> Result<Zeroizing<Vec<u8>>> {
    read(file, "the certificate file")
}

fn read(file: File, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    // One allocation, so that no copy of a key is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LIMIT));
    let limit = u64::try_from(FILE_LIMIT).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).doing(format!("read {what}"))?;
    if bytes.len() >= FILE_LIMIT {
        return Err(Error::temporary(format!("{what} is too large")));
    }
    Ok(bytes)
}

/// What fits into a message to net, with the schemes and the lengths.
const CHAIN_SIZE_LIMIT: usize = MESSAGE_LIMIT - 1024;
/// A chain of ten large certificates.
const FILE_LIMIT: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{p256, pair, pem};

    // Bad input gets one clear log line; each of these is a 454 at STARTTLS (RFC 3207 4).
    #[test]
    fn a_pair_that_cannot_serve_says_what_is_wrong_with_which_file() {
        let (good, other) = (p256(), p256());
        let encrypted = pem(&["ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-passout", "pass:x"]);
        let text = String::from_utf8(good.clone()).unwrap();
        let key_only = &text[..text.find("-----BEGIN CERT").unwrap()];
        let cut = &text[..text.find("-----END PRIVATE").unwrap()];
        let garbled = text.replace("KEY-----\nM", "KEY-----\n!");
        let emptied = b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
        for (certificate, key, words) in [
            (&good[..], &b""[..], "the key file: "),
            (b"", &good, "the certificate file: no certificate"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA", &good, "the certificate file: "),
            (&good, &encrypted, "the key file is encrypted"),
            (&good, cut.as_bytes(), "the key file: "),
            (&good, garbled.as_bytes(), "the key file: "),
            (&good, emptied, "the key file: "),
            (key_only.as_bytes(), &good, "the certificate file: no certificate"),
            (&good, &other, "key and certificate: "),
            (&good.repeat(17), &good, "the certificate file: a chain too long"),
        ] {
            let error = KeyPair::parse(certificate, key).unwrap_err().to_string();
            assert!(error.starts_with(words), "{words}: {error}");
        }
        assert!(KeyPair::parse(&good.repeat(16), &good).is_ok());
    }

    #[test]
    fn a_file_larger_than_any_pair_is_not_taken() {
        let mut pem = p256();
        pem.resize(FILE_LIMIT, b'\n');
        let error = KeyPair::read(pair("large", &pem, &pem)).unwrap_err();
        assert_eq!(error.to_string(), "the certificate file is too large");
        pem.pop();
        assert!(KeyPair::read(pair("largest", &pem, &pem)).is_ok());
    }
}
