//! The keys, and where they come from: given once, or read again when they may have changed.

use crate::clock::Moment;
use crate::fork::PerProcess;
use crate::locks::Mutex;
use crate::store::{StoreError, StoreErrorKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hmac;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fmt, fs};

/// How long keys are used before they are read again, and how soon again for one that is missing.
const REREAD: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(1));

/// A key that seals and opens, with the name by which values tell it.
pub struct SealingKey {
    id: String,
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

impl SealingKey {
    /// Takes 32 random bytes under an id of 1 to 32 letters, digits, `-` and `_`. Never give one id to two keys.
    ///
    /// # Errors
    /// [`Sealed`](crate::store::StoreErrorKind::Sealed) if the id is none.
    pub fn new(id: &str, bytes: &[u8; 32]) -> Result<SealingKey, StoreError> {
        let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=32).contains(&id.len()) || !id.chars().all(is_fit) {
            return Err(refused(format!("the id of a key is {id:?}; it must be 1 to 32 letters, digits, - and _")));
        }
        let cipher = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| refused("a key must have 32 bytes"))?;
        let root = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"token-manager nonces").as_ref());
        Ok(SealingKey { id: id.to_owned(), cipher: LessSafeKey::new(cipher), nonces })
    }

    /// Reads a key written as `<id> <32 bytes in base64>`, as `echo 2026a $(openssl rand -base64 32)` makes it.
    ///
    /// # Errors
    /// [`Sealed`](crate::store::StoreErrorKind::Sealed) if it is of another form; nothing of it is quoted.
    pub fn parse(line: &str) -> Result<SealingKey, StoreError> {
        let form = || refused("a sealing key is written as an id, a space, and 32 bytes in base64");
        let (id, text) = line.trim().split_once(char::is_whitespace).ok_or_else(form)?;
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(form)?;
        SealingKey::new(id, &bytes)
    }

    /// Returns the name by which values tell the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }

    pub(super) fn authenticate(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.nonces);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealingKey").field("id", &self.id).finish_non_exhaustive()
    }
}

type Load = dyn Fn() -> Result<Vec<SealingKey>, Box<dyn Error + Send + Sync>> + Send + Sync;

/// The keys of a [`SealedStore`](super::SealedStore), the newest first.
///
/// To change keys in a running fleet, give every process the new one as the second, and make it the first once all have it.
/// Take the old one away when nothing sealed by it is left: after the longest life of a token, and after the next fetch where a secret is carried.
pub struct Keyring(Origin);

enum Origin {
    Given(Ring),
    Loaded { load: Box<Load>, last: PerProcess<Mutex<Option<Known>>> },
}

type Ring = Arc<[Arc<SealingKey>]>;

#[derive(Clone)]
struct Known {
    ring: Ring,
    at: Moment,
    /// The key for whose sake it was read.
    sought: String,
}

impl Keyring {
    /// Keys that never change while the process runs.
    pub fn new(keys: Vec<SealingKey>) -> Keyring {
        Keyring(Origin::Given(ring_of(keys)))
    }

    /// Keys from a file, one a line as [`SealingKey::parse`] reads it, the newest first; empty lines and those that begin with `#`
    /// are passed over. Read at first use, then each minute, and at once for a key that is missing, for the same one once a second at most.
    pub fn file(path: impl Into<PathBuf>) -> Keyring {
        let path = path.into();
        Keyring::load_with(move || {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(parse_lines(&text)?)
        })
    }

    /// Keys from an environment variable, in the form of a file's lines or separated by commas.
    pub fn env(variable: impl Into<String>) -> Keyring {
        let variable = variable.into();
        Keyring::load_with(move || {
            let text = env::var(&variable).map_err(|error| format!("environment variable {variable}: {error}"))?;
            Ok(parse_lines(&text.replace(',', "\n"))?)
        })
    }

    /// Keys from elsewhere, such as a key service; called as often as a [file](Keyring::file) is read, on the thread that needs
    /// a key, with no lock held. While it fails the last keys are used on.
    pub fn load_with(
        load: impl Fn() -> Result<Vec<SealingKey>, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Keyring {
        Keyring(Origin::Loaded { load: Box::new(load), last: PerProcess::default() })
    }

    pub(super) fn newest(&self) -> Result<Arc<SealingKey>, StoreError> {
        self.ring(None)?.first().cloned().ok_or_else(|| refused("there is no key to seal with"))
    }

    pub(super) fn find(&self, id: &str) -> Result<Arc<SealingKey>, StoreError> {
        let named = |ring: &[Arc<SealingKey>]| ring.iter().find(|key| key.id == id).cloned();
        let found = match named(&self.ring(None)?) {
            None => named(&self.ring(Some(id))?),
            found => found,
        };
        found.ok_or_else(|| {
            refused(format!("no key has the id {id:?} that a value is sealed by; give it to this process"))
        })
    }

    /// Returns the keys, read again if they are old, or for the sake of one that was not among them.
    fn ring(&self, missing: Option<&str>) -> Result<Ring, StoreError> {
        let (load, last) = match &self.0 {
            Origin::Given(ring) => return Ok(ring.clone()),
            Origin::Loaded { load, last } => (load, last.get(Mutex::default)),
        };
        let (known, now) = (last.lock().clone(), Moment::now());
        if let Some(Known { ring, at, sought }) = &known {
            let is_sought_anew = missing.is_some_and(|id| id != sought);
            let rest = if missing.is_some() { REREAD.1 } else { REREAD.0 };
            if !is_sought_anew && now.since(*at) < rest {
                return Ok(ring.clone());
            }
        }
        let ring = match (load(), known) {
            (Ok(keys), _) => ring_of(keys),
            (Err(error), Some(known)) => {
                log::warn!(target: "token_manager", "the sealing keys cannot be read again: {error}");
                known.ring
            }
            (Err(error), None) => return Err(refused("the sealing keys cannot be read").because(error)),
        };
        let sought = missing.unwrap_or_default().to_owned();
        *last.lock() = Some(Known { ring: ring.clone(), at: now, sought });
        Ok(ring)
    }
}

fn ring_of(keys: Vec<SealingKey>) -> Ring {
    keys.into_iter().map(Arc::new).collect()
}

fn parse_lines(text: &str) -> Result<Vec<SealingKey>, StoreError> {
    let lines = text.lines().map(str::trim).enumerate();
    let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    keys.map(|(at, line)| SealingKey::parse(line).map_err(|error| refused(format!("line {}", at + 1)).because(error)))
        .collect()
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

pub fn refused(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Sealed, message)
}
