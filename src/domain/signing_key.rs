//! A key of an endpoint that signs, of either scheme, as it is stored.

use super::key_pair::PrivateKey;
use super::signature::{Secret, Sign};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    Secret(Secret),
    Pair(PrivateKey),
}

/// The column `kind` of a stored key: its text form without the underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Whsec,
    Whsk,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Whsec => "whsec",
            Kind::Whsk => "whsk",
        }
    }
}

impl SigningKey {
    /// `None`: the bytes are no key of this kind, or the kind is none that we know.
    pub fn stored(kind: &str, bytes: Vec<u8>) -> Option<SigningKey> {
        match kind {
            "whsec" => Secret::from_bytes(bytes).ok().map(SigningKey::Secret),
            "whsk" => PrivateKey::from_bytes(&bytes).ok().map(SigningKey::Pair),
            _ => None,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            SigningKey::Secret(_) => Kind::Whsec,
            SigningKey::Pair(_) => Kind::Whsk,
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            SigningKey::Secret(secret) => secret.as_bytes(),
            SigningKey::Pair(key) => key.as_bytes(),
        }
    }
}

impl Sign for SigningKey {
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        match self {
            SigningKey::Secret(secret) => secret.sign(id, timestamp, body),
            SigningKey::Pair(key) => key.sign(id, timestamp, body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signature::header;

    #[test]
    fn keys_of_both_kinds_are_stored_and_sign_side_by_side() {
        let keys = [
            SigningKey::Secret(Secret::from_bytes(vec![1; 32]).unwrap()),
            SigningKey::Pair(PrivateKey::from_bytes(&[2; 32]).unwrap()),
        ];
        for key in &keys {
            assert_eq!(SigningKey::stored(key.kind().as_str(), key.as_bytes().to_vec()).as_ref(), Some(key));
        }
        let header = header(&keys, "id", 1, b"body");
        let (v1, v1a) = header.split_once(' ').unwrap();
        assert!(v1.starts_with("v1,") && v1a.starts_with("v1a,"), "{header}");
        assert_eq!(SigningKey::stored("whsk", vec![1; 31]), None);
        assert_eq!(SigningKey::stored("other", vec![1; 32]), None);
    }
}
