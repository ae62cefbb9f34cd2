//! A store that seals what is secret before another store has it: tokens and carried secrets, by AES-256-GCM.

mod keyring;
mod seal;

use super::forward::forward_unsealed;
use super::{
    Carried, Claim, Claimed, Committed, Failure, Feed, Follow, Grant, Inspection, Lease, Pause, Presence, Secret,
    Store, StoreError, Stored, Subscription, TokenName,
};
pub use keyring::{Keyring, SealingKey};
use seal::Place;
use std::time::Duration;

/// Seals tokens and carried secrets in another store, whatever it is: there lies `tm1.<key id>.<nonce><ciphertext>`, the last
/// part in base64url (RFC 4648 §5) without padding.
///
/// The newest key of the [`Keyring`] seals, all of them open. A token's name, the field and the generation are the associated data
/// of AES-256-GCM (NIST SP 800-38D), so a value that was put into another place does not open there. The nonce is the beginning of an
/// HMAC-SHA256 of all that is sealed, by a key of its own: a commit that is repeated is the same one, and two
/// values share a nonce only by a chance of 2⁻⁹⁶.
///
/// What cannot be opened is an error of the kind [`Sealed`](crate::store::StoreErrorKind::Sealed), and never a fetch: the fleet
/// waits for the key. Names, generations and times are not sealed.
pub struct SealedStore<S> {
    inner: S,
    keys: Keyring,
    accepts_unsealed: bool,
}

impl<S: Store> SealedStore<S> {
    /// Seals with these keys what the inner store is to keep.
    pub fn new(inner: S, keys: Keyring) -> SealedStore<S> {
        SealedStore { inner, keys, accepts_unsealed: false }
    }

    /// Takes values that lie in the store in clear too: while a fleet begins to seal. Defaults to refusing them.
    pub fn accept_unsealed(mut self) -> SealedStore<S> {
        self.accepts_unsealed = true;
        self
    }

    fn seal(&self, place: &Place<'_>, value: &Secret) -> Result<Secret, StoreError> {
        self.keys.newest().and_then(|key| seal::seal(&key, place, value))
    }

    fn open(&self, place: &Place<'_>, value: &Secret) -> Result<Secret, StoreError> {
        match seal::key_id(value.reveal()) {
            Some(id) => seal::open(&*self.keys.find(id)?, place, value),
            None if self.accepts_unsealed => Ok(value.clone()),
            None => Err(keyring::refused("a value lies in the store in clear; accept_unsealed takes it")),
        }
    }

    fn open_stored(&self, name: &TokenName, stored: Stored) -> Result<Stored, StoreError> {
        let value = self.open(&Place::token(name, stored.generation), &stored.value)?;
        Ok(Stored { value, ..stored })
    }

    fn open_carried(&self, name: &TokenName, carried: Carried) -> Result<Carried, StoreError> {
        let secret = self.open(&Place::carry(name, carried.generation), &carried.secret)?;
        Ok(Carried { secret, ..carried })
    }
}

impl<S: Store> Store for SealedStore<S> {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        Ok(match self.inner.claim(name, claim)? {
            Claimed::Token(stored) => Claimed::Token(self.open_stored(name, stored)?),
            Claimed::Granted { generation, carry } => {
                let carry = carry.map(|carry| self.open_carried(name, carry)).transpose()?;
                Claimed::Granted { generation, carry }
            }
            other => other,
        })
    }

    fn read(&self, names: &[TokenName]) -> Result<Vec<Option<Stored>>, StoreError> {
        let open =
            |(name, stored): (_, Option<Stored>)| stored.map(|stored| self.open_stored(name, stored)).transpose();
        names.iter().zip(self.inner.read(names)?).map(open).collect()
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        let value = self.seal(&Place::token(name, lease.generation), &grant.value)?;
        let place = Place::carry(name, lease.generation);
        let carry = grant.carry.as_ref().map(|carry| self.seal(&place, carry)).transpose()?;
        Ok(match self.inner.commit(name, lease, &Grant { value, carry, ..grant.clone() })? {
            Committed::Superseded(stored) => Committed::Superseded(self.open_stored(name, stored)?),
            other => other,
        })
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        let value = self.seal(&Place::token(name, token.generation), &token.value)?;
        self.inner.offer(name, &Stored { value, ..token.clone() })
    }

    forward_unsealed!(self => self.inner);
}
