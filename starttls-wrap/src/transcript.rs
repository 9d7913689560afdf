//! What a server's key may sign: transcripts of TLS handshakes, and nothing else.

/// Whether this is what a TLS server signs in a handshake, by this scheme.
pub fn is_server_transcript(scheme: u16, message: &[u8]) -> bool {
    is_certificate_verify(scheme, message) || is_key_exchange(message)
}

/// RFC 8446 4.4.3: 64 spaces, the context string, NUL, a transcript hash of SHA-256 or SHA-384.
fn is_certificate_verify(scheme: u16, message: &[u8]) -> bool {
    let hash = message
        .strip_prefix(&[b' '; 64])
        .and_then(|rest| rest.strip_prefix(b"TLS 1.3, server CertificateVerify\0"));
    let known = hash.is_some_and(|hash| hash.len() == 32 || hash.len() == 48);
    // RFC 8446 4.2.3: rsa_pkcs1 schemes are not defined for use in signed TLS handshake messages.
    known && !RSA_PKCS1.contains(&scheme)
}

/// RFC 8422 5.4: client and server random, then named_curve, the curve, and a point of its length.
fn is_key_exchange(message: &[u8]) -> bool {
    let Some((_randoms, parameters)) = message.split_at_checked(64) else { return false };
    match parameters {
        [3, 0, 29, 32, point @ ..] => point.len() == 32,
        [3, 0, 23, 65, point @ ..] => point.len() == 65 && point.first() == Some(&4),
        [3, 0, 24, 97, point @ ..] => point.len() == 97 && point.first() == Some(&4),
        _ => false,
    }
}

const RSA_PKCS1: [u16; 4] = [0x0201, 0x0401, 0x0501, 0x0601];

#[cfg(test)]
mod tests {
    use super::*;

    const ECDSA: u16 = 0x0403;

    fn certificate_verify(spaces: usize, context: &str, hash: usize) -> Vec<u8> {
        let mut message = vec![b' '; spaces];
        message.extend_from_slice(context.as_bytes());
        message.push(0);
        message.extend(vec![0xa5; hash]);
        message
    }

    fn key_exchange(parameters: &[u8], point: usize) -> Vec<u8> {
        let mut message = vec![0x5a; 64];
        message.extend_from_slice(parameters);
        message.extend(vec![4; point]);
        message
    }

    // DESIGN 2: TLS 1.3 exactly 64 spaces, the server context string, NUL, a 32- or 48-byte hash.
    #[test]
    fn tls_1_3_transcripts() {
        const SERVER: &str = "TLS 1.3, server CertificateVerify";
        for (message, good) in [
            (certificate_verify(64, SERVER, 32), true),
            (certificate_verify(64, SERVER, 48), true),
            (certificate_verify(63, SERVER, 32), false),
            (certificate_verify(65, SERVER, 32), false),
            (certificate_verify(64, SERVER, 31), false),
            (certificate_verify(64, SERVER, 33), false),
            (certificate_verify(64, SERVER, 64), false),
            (certificate_verify(64, "TLS 1.3, client CertificateVerify", 32), false),
            (certificate_verify(64, "", 32), false),
            (Vec::new(), false),
        ] {
            assert_eq!(is_server_transcript(ECDSA, &message), good, "{}", message.escape_ascii());
        }
        assert!(!is_server_transcript(0x0401, &certificate_verify(64, SERVER, 32)));
    }

    // DESIGN 2: TLS 1.2 exactly two randoms and an ECDHE block of a known curve with the right point length.
    #[test]
    fn tls_1_2_transcripts() {
        for (parameters, point, good) in [
            (&[3, 0, 29, 32][..], 32, true),
            (&[3, 0, 23, 65], 65, true),
            (&[3, 0, 24, 97], 97, true),
            (&[3, 0, 29, 32], 31, false),
            (&[3, 0, 29, 32], 33, false),
            (&[3, 0, 23, 65], 64, false),
            (&[3, 0, 25, 133], 133, false),
            (&[1, 0, 29, 32], 32, false),
            (&[3, 0, 29, 65], 65, false),
            (&[], 0, false),
        ] {
            let message = key_exchange(parameters, point);
            assert_eq!(is_server_transcript(ECDSA, &message), good, "{parameters:?} {point}");
        }
        let mut compressed = key_exchange(&[3, 0, 23, 65], 65);
        compressed[68] = 2;
        assert!(!is_server_transcript(ECDSA, &compressed));
    }
}
