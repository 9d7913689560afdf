//! X25519MLKEM768: a key exchange that a quantum computer of tomorrow cannot undo (RFC 8446 4.2.8, draft-ietf-tls-ecdhe-mlkem).

use ml_kem::B32;
use ml_kem::ml_kem_768::EncapsulationKey;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::crypto::ring::kx_group::X25519;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};
use zeroize::Zeroize;

/// The hybrid group, for servers: secret if either of its halves is.
#[derive(Debug)]
pub struct X25519MlKem768;

impl SupportedKxGroup for X25519MlKem768 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Err(Error::General("only servers speak X25519MLKEM768 here".to_owned()))
    }

    fn start_and_complete(&self, share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (lattice, curve) =
            share.split_last_chunk::<X25519_SHARE>().ok_or_else(invalid_share)?;
        let (ciphertext, mut secret) = encapsulate(lattice)?;
        let curve = X25519.start_and_complete(curve)?;
        secret.extend_from_slice(curve.secret.secret_bytes());
        let completed = CompletedKeyExchange {
            group: self.name(),
            pub_key: [ciphertext, curve.pub_key].concat(),
            secret: SharedSecret::from(secret.as_slice()),
        };
        secret.zeroize();
        Ok(completed)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

/// A ciphertext for this ML-KEM-768 key and the secret in it (FIPS 203 7.2).
fn encapsulate(key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let key = key.try_into().map_err(|_| invalid_share())?;
    let key = EncapsulationKey::new(key).map_err(|_| invalid_share())?;
    let mut seed = B32::default();
    SystemRandom::new().fill(&mut seed).map_err(|_| Error::FailedToGetRandomBytes)?;
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&seed);
    let secret = shared.to_vec();
    shared.zeroize();
    seed.zeroize();
    Ok((ciphertext.to_vec(), secret))
}

fn invalid_share() -> Error {
    PeerMisbehaved::InvalidKeyShare.into()
}

/// The client's half of X25519, behind its ML-KEM key of 1,184 bytes.
const X25519_SHARE: usize = 32;
