//! One value: sealed, and opened again where it belongs.

use super::keyring::{SealingKey, refused};
use crate::bytes::Writer;
use crate::store::{Secret, StoreError, TokenName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, Nonce};

const FORM: &str = "tm1";
const NONCE: usize = ring::aead::NONCE_LEN;

/// Where a value belongs.
pub struct Place<'a> {
    field: &'static str,
    name: &'a TokenName,
    /// Tokens of one grant share what is carried.
    owner: &'a str,
    generation: u64,
}

impl Place<'_> {
    pub fn token(name: &TokenName, generation: u64) -> Place<'_> {
        Place { field: "token", name, owner: &name.name, generation }
    }

    pub fn carry(name: &TokenName, generation: u64) -> Place<'_> {
        Place { field: "carry", name, owner: &name.grant, generation }
    }

    /// The associated data: texts behind their lengths, so that no two places have the same.
    fn data(&self, key: &SealingKey) -> Vec<u8> {
        let mut out = Writer::new(1);
        for part in [FORM, key.id(), &self.name.namespace, &self.name.group, self.owner, self.field] {
            out.text(part);
        }
        out.number(self.generation);
        out.0
    }
}

/// Returns the id of the key that sealed the value; `None` if it is not sealed.
pub fn key_id(value: &str) -> Option<&str> {
    let (id, _) = value.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')?;
    Some(id)
}

pub fn seal(key: &SealingKey, place: &Place<'_>, value: &Secret) -> Result<Secret, StoreError> {
    let data = place.data(key);
    let tag = key.authenticate(&[&data, value.reveal().as_bytes()]);
    let nonce: [u8; NONCE] = std::array::from_fn(|at| tag.as_ref()[at]);
    let mut bytes = value.reveal().as_bytes().to_vec();
    let sealed =
        key.cipher().seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&data), &mut bytes);
    sealed.map_err(|_| refused("the value is too long to be sealed"))?;
    let text = URL_SAFE_NO_PAD.encode([&nonce[..], &bytes].concat());
    Ok(Secret::new(format!("{FORM}.{}.{text}", key.id())))
}

pub fn open(key: &SealingKey, place: &Place<'_>, value: &Secret) -> Result<Secret, StoreError> {
    let opened = || {
        let (_, text) = value.reveal().rsplit_once('.')?;
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.cipher().open_in_place(nonce, Aad::from(place.data(key)), sealed).ok()?;
        std::str::from_utf8(plain).ok().map(Secret::new)
    };
    opened().ok_or_else(|| {
        let id = key.id();
        refused(format!("a value does not open with key {id:?}: another key has this id, or it was changed or moved"))
    })
}
