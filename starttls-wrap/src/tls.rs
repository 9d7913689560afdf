//! rustls as bytes in, bytes out; the key is elsewhere.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{AlertDescription, Error, HandshakeKind, PeerIncompatible, ServerConnection};

use crate::channel::Facts;
use crate::holder::{Holder, Resolver};

/// A TLS session, seen from the server's side.
#[derive(Debug)]
pub struct Tls {
    connection: ServerConnection,
    holder: Arc<Holder>,
    /// As much of the client's first record as tells its version.
    first: Vec<u8>,
    /// What the client is told instead of rustls' own alert.
    alert: Option<AlertDescription>,
}

/// Everything that failed in a session of TLS, and whose fault it was.
#[derive(Debug)]
pub struct Failure(Error);

impl Tls {
    /// A session that is about to begin; the channel's other end holds the key.
    ///
    /// # Errors
    /// Those of rustls, which cannot happen with its own defaults.
    pub fn new(holder: Arc<Holder>) -> Result<Tls, Failure> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(&holder))));
        // This process ends with its session, so nothing could ever be resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let mut connection = ServerConnection::new(Arc::new(config))?;
        // The relay bounds what is on its way; a short write would lose bytes.
        connection.set_buffer_limit(None);
        Ok(Tls { connection, holder, first: Vec::new(), alert: None })
    }

    /// Takes in what the client sent; plaintext is appended to `plain`.
    ///
    /// # Errors
    /// Whatever ends the session; the alert that tells the client waits in `outgoing`.
    pub fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), Failure> {
        let missing = VERSION_END.saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(missing));
        while !bytes.is_empty() {
            let taken = self.connection.read_tls(&mut bytes);
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    self.alert = self.alert_for(&error);
                    return Err(error.into());
                }
            };
            if state.plaintext_bytes_to_read() > 0 {
                let count = u64::try_from(state.plaintext_bytes_to_read()).unwrap_or(0);
                // Of these bytes rustls said that they are there.
                let _ = self.connection.reader().take(count).read_to_end(plain);
            }
            if !matches!(taken, Ok(1..)) {
                break;
            }
        }
        Ok(())
    }

    /// Encrypts for the client.
    pub fn send(&mut self, plain: &[u8]) {
        // Without a limit, the buffer takes everything.
        let _ = self.connection.writer().write_all(plain);
    }

    /// Moves what is to go to the client to `out`.
    pub fn outgoing(&mut self, out: &mut Vec<u8>) {
        let mut flight = Vec::new();
        while self.connection.wants_write() {
            if !matches!(self.connection.write_tls(&mut flight), Ok(1..)) {
                break;
            }
        }
        match self.alert.take() {
            Some(alert) => out.extend([ALERT, &[FATAL, alert.into()]].concat()),
            None => out.append(&mut flight),
        }
    }

    /// The right alert where rustls' is another; both come before anything of ours has been encrypted.
    fn alert_for(&self, error: &Error) -> Option<AlertDescription> {
        match error {
            // RFC 5246 E.1; rustls looks at the signature schemes, which older versions do not send, before the version.
            Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired)
                if self.first.get(VERSION_START..) < Some(TLS_1_2) =>
            {
                Some(AlertDescription::ProtocolVersion)
            }
            // RFC 8446 6.2; rustls says access_denied where no certificate suits the client.
            Error::General(_) if self.holder.fingerprint().is_empty() => {
                Some(AlertDescription::HandshakeFailure)
            }
            _ => None,
        }
    }

    /// Tells the client that nothing more will come (RFC 8446 6.1).
    pub fn close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether the client said that nothing more will come.
    pub fn peer_has_closed(&mut self) -> bool {
        matches!(self.connection.reader().read(&mut [0]), Ok(0))
    }

    /// Whether the handshake still goes on.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What the handshake settled.
    pub fn facts(&self) -> Facts {
        let connection = &self.connection;
        let version = connection.protocol_version().map_or(0, u16::from);
        let mut facts = Facts {
            version,
            suite: connection.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
            group: connection
                .negotiated_key_exchange_group()
                .map_or(0, |group| group.name().into()),
            name: connection.server_name().unwrap_or_default().as_bytes().to_vec(),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            exporter: Vec::new(),
        };
        // RFC 9266 2 wants TLS 1.3, or an extended master secret that is not known here.
        if version == TLS_1_3
            && let Ok(exporter) =
                connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        {
            facts.exporter = exporter.to_vec();
        }
        facts
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Error::AlertReceived(alert) => write!(f, "alert={} from=client", alert_name(*alert)),
            error => write!(f, "from=server reason={:?}", error.to_string()),
        }
    }
}

/// Algorithms: ring's defaults (TLS 1.2 with ECDHE and AEAD, TLS 1.3), and the hybrid group before all others.
pub fn provider() -> Arc<CryptoProvider> {
    #[allow(unused_mut)]
    let mut provider = rustls::crypto::ring::default_provider();
    #[cfg(feature = "pq")]
    provider.kx_groups.insert(0, &crate::kex::X25519MlKem768);
    Arc::new(provider)
}

/// The alert by its name in RFC 8446 6.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut after_small = false;
    for letter in format!("{alert:?}").chars() {
        if after_small && letter.is_ascii_uppercase() {
            name.push('_');
        }
        after_small = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Where a ClientHello has its legacy_version, behind the headers of record and message (RFC 8446 5.1, 4, 4.1.2).
const VERSION_START: usize = 9;
const VERSION_END: usize = 11;
/// As it stands there.
const TLS_1_2: &[u8] = &[3, 3];
/// The header of a record with an alert in clear (RFC 8446 5.1).
const ALERT: &[u8] = &[21, 3, 3, 0, 2];
/// RFC 8446 6.
const FATAL: u8 = 2;
const TLS_1_3: u16 = 0x0304;
/// RFC 9266 2.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
