//! Bytes that must not be seen.

use std::fmt;
use std::hint::black_box;
use std::ops::Deref;

use zeroize::Zeroizing;

/// A password, or what is as good as one: zeroed when dropped, never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the vector must not have been grown with secrets in it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes as text, if they are.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// Overwrites what the calls before this one have left on the stack: hash functions copy the password's words there.
#[inline(never)]
pub fn wipe_stack() {
    black_box(&mut [0_u8; STACK]);
}

/// Farther down than any of them gets.
const STACK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from(&b"tanstaaf"[..])), "Secret");
    }
}
