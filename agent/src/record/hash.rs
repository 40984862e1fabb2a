//! Keyed hashes, which stand for what must not leave the node: equal values have equal ones, and without the key nobody can
//! tell by trying which value one is of.
//!
//! In: a key, and bytes. Out: the beginning of their HMAC-SHA256, as hexadecimal digits. Never shows the key.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;

/// Bytes of the hash that stands for a field: enough that no two of a whole fleet's values meet.
const FIELD_BYTES: usize = 16;

/// Bytes of the one in a mark, which stands within a text.
const MARK_BYTES: usize = 8;

/// A key that hashes are made with.
#[derive(Clone)]
pub struct HashKey(Arc<hmac::Key>);

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl HashKey {
    /// By these bytes, which are a secret.
    pub fn new(secret: &[u8]) -> HashKey {
        HashKey(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// Appends what stands for the value of a field.
    pub fn append_of_field(&self, out: &mut Vec<u8>, value: &[u8]) {
        self.append(out, value, FIELD_BYTES);
    }

    /// Appends what stands in a mark for what it replaces.
    pub fn append_of_mark(&self, out: &mut Vec<u8>, value: &[u8]) {
        self.append(out, value, MARK_BYTES);
    }

    fn append(&self, out: &mut Vec<u8>, value: &[u8], bytes: usize) {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 0xf)];
        for byte in &hmac::sign(&self.0, value).as_ref()[..bytes] {
            out.extend_from_slice(&[digit(byte >> 4), digit(*byte)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_beginning_of_the_hmac_and_a_key_is_not_shown() {
        // RFC 4231, test case 2.
        let key = HashKey::new(b"Jefe");
        let mut out = b"x:".to_vec();
        key.append_of_field(&mut out, b"what do ya want for nothing?");
        assert_eq!(out, b"x:5bdcc146bf60754e6a042426089575c7");
        out.clear();
        key.append_of_mark(&mut out, b"what do ya want for nothing?");
        assert_eq!(out, b"5bdcc146bf60754e");
        assert_eq!(format!("{key:?}"), "***");
    }
}
