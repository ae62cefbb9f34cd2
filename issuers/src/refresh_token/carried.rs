//! What the store carries from fetch to fetch: the refresh token and, where logins are left as secrets, the digests of those that have
//! been presented. Pure.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// The SHA-256 of a refresh token.
pub type Digest = [u8; 32];

/// What a text begins with that holds digests: `token-manager/1:DIGEST,DIGEST:REFRESH`. Any other text is the refresh token itself.
const VERSION: &str = "token-manager/1:";
/// How many digests are kept, the newest ones: who comes back with an older login than these is late by as many.
const MOST: usize = 8;

/// A refresh token, and which logins of those that were left as secrets have been presented before it, the newest last.
#[derive(Clone, Default, PartialEq)]
pub struct Carried {
    pub refresh: String,
    logins: Vec<Digest>,
}

impl Carried {
    pub fn read(text: &str) -> Carried {
        let plain = || Carried { refresh: text.to_owned(), logins: Vec::new() };
        let parts = text.strip_prefix(VERSION).and_then(|rest| rest.split_once(':'));
        let Some((digests, refresh)) = parts else { return plain() };
        let digests = digests.split(',').filter(|digest| !digest.is_empty());
        let logins = digests.map(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok());
        match logins.collect() {
            Some(logins) => Carried { refresh: refresh.to_owned(), logins },
            None => plain(),
        }
    }

    pub fn write(&self) -> String {
        if self.logins.is_empty() && !self.refresh.starts_with(VERSION) {
            return self.refresh.clone();
        }
        let digests: Vec<_> = self.logins.iter().map(|digest| BASE64_URL_SAFE_NO_PAD.encode(digest)).collect();
        format!("{VERSION}{}:{}", digests.join(","), self.refresh)
    }

    /// Returns the same with the refresh token that comes next.
    pub fn followed_by(&self, refresh: String) -> Carried {
        Carried { refresh, logins: self.logins.clone() }
    }

    /// Returns whether it is known which logins have been presented.
    pub fn knows_logins(&self) -> bool {
        !self.logins.is_empty()
    }

    pub fn has_seen(&self, login: &Digest) -> bool {
        self.logins.contains(login)
    }

    /// Takes note of a login that was presented.
    pub fn saw(&mut self, login: Digest) {
        if !self.has_seen(&login) {
            self.logins.push(login);
            let surplus = self.logins.len().saturating_sub(MOST);
            self.logins.drain(..surplus);
        }
    }
}

pub fn digest_of(text: &str) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use crate::refresh_token::carried::{Carried, digest_of};

    #[test]
    fn what_is_carried_is_read_as_it_was_written_and_a_plain_refresh_token_is_itself() {
        let mut carried = Carried::read("r 1:,");
        assert!(carried.refresh == "r 1:," && !carried.knows_logins() && carried.write() == "r 1:,");
        (0..10).for_each(|number| carried.saw(digest_of(&format!("login {number}"))));
        carried.saw(digest_of("login 9"));
        let read = Carried::read(&carried.write());
        assert_eq!((read.refresh.as_str(), read.logins.len()), ("r 1:,", 8));
        assert!(read.has_seen(&digest_of("login 9")) && !read.has_seen(&digest_of("login 1")));
        assert!(!carried.write().contains("login"));
        for odd in ["token-manager/1:", "token-manager/1:x:y", "token-manager/1::y"] {
            let plain = Carried { refresh: odd.to_owned(), logins: Vec::new() };
            assert_eq!(Carried::read(&plain.write()).refresh, odd, "a refresh token may look like anything");
        }
        assert_eq!(Carried::read("token-manager/1:x:y").refresh, "token-manager/1:x:y");
    }
}
