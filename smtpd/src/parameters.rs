//! The parameters of MAIL.

use crate::replies::{self, Reply};

/// What is wrong with the parameters of MAIL, where messages have at most `databytes` (0: any).
pub fn mail(text: &[u8], databytes: u64) -> Option<Reply> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for parameter in wire::parameters(text) {
        let Some(parameter) = parameter else { return Some(replies::SYNTAX) };
        let keyword = parameter.keyword.to_ascii_uppercase();
        let wrong = match (keyword.as_slice(), parameter.value) {
            (b"SIZE", Some(digits)) => match declared_size(digits) {
                Some(size) if databytes > 0 && size > databytes => Some(replies::TOO_BIG),
                Some(_) => None,
                None => Some(replies::SYNTAX),
            },
            // RFC 6152 2; the value of AUTH is never believed (RFC 4954 5).
            (b"BODY", Some(kind)) if is_body_kind(kind) => None,
            (b"AUTH", Some(_)) => None,
            (b"SIZE" | b"BODY" | b"AUTH", _) => Some(replies::SYNTAX),
            _ => Some(replies::UNKNOWN_PARAMETER),
        };
        if wrong.is_some() {
            return wrong;
        }
        if seen.contains(&keyword) {
            return Some(replies::SYNTAX);
        }
        seen.push(keyword);
    }
    None
}

/// RFC 1870 4: up to 20 digits; what no number of ours can hold is more than any limit.
fn declared_size(digits: &[u8]) -> Option<u64> {
    let valid = digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| str::from_utf8(digits).ok()?.parse().ok()).map(|size| size.unwrap_or(u64::MAX))
}

fn is_body_kind(kind: &[u8]) -> bool {
    kind.eq_ignore_ascii_case(b"7BIT") || kind.eq_ignore_ascii_case(b"8BITMIME")
}
