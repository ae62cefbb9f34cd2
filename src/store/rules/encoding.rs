//! The states as bytes, for stores that keep them as one value: a version, then the fields in order; numbers of eight bytes,
//! lowest first, texts behind their length, what may be absent behind a 0 or a 1. Encoded states hold secrets in clear.

use super::state::{Carry, EgressState, FleetPause, Meta, Presented, Span, StoredToken, TokenState, Updater};
use crate::error::FailureClass;
use crate::store::{Lease, StoreError, StoreErrorKind};
use crate::token::Secret;
use std::time::Duration;

/// Grows with each change of the form, never with the library.
const VERSION: u8 = 1;

impl TokenState {
    /// Writes the state down, secrets in clear.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let TokenState { token, updater, meta, carry } = self;
        put_option(&mut out, token, |out, StoredToken { generation, value, life, expires_at }| {
            put_number(out, *generation);
            put_text(out, value.reveal());
            put_span(out, Span { ends_at: *expires_at, length: *life });
        });
        put_option(&mut out, updater, |out, Updater { lease, span }| {
            put_lease(out, lease);
            put_span(out, *span);
        });
        let Meta { granted, invalidated, doubted, pause, fails } = meta;
        for number in [granted, invalidated, doubted, fails] {
            put_number(&mut out, *number);
        }
        put_option(&mut out, pause, |out, FleetPause { span, class, generation }| {
            put_span(out, *span);
            put_text(out, class.as_str());
            put_number(out, *generation);
        });
        put_option(&mut out, carry, |out, Carry { secret, expires_at, generation, presented }| {
            put_text(out, secret.reveal());
            put_option(out, expires_at, |out, at| put_number(out, *at));
            put_number(out, *generation);
            put_option(out, presented, |out, Presented { by, at }| {
                put_option(out, by, put_lease);
                put_number(out, *at);
            });
        });
        out
    }

    /// Reads what [`encode`](TokenState::encode) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if it is no such state, or a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<TokenState, StoreError> {
        read(bytes, |from| {
            let token = from.option(|from| {
                let (generation, value, span) = (from.number()?, Secret::new(from.text()?), from.span()?);
                Some(StoredToken { generation, value, life: span.length, expires_at: span.ends_at })
            })?;
            let updater = from.option(|from| Some(Updater { lease: from.lease()?, span: from.span()? }))?;
            let [granted, invalidated, doubted, fails] =
                [from.number()?, from.number()?, from.number()?, from.number()?];
            let pause = from.option(|from| {
                let (span, class) = (from.span()?, FailureClass::parse(from.text()?));
                Some(FleetPause { span, class, generation: from.number()? })
            })?;
            let carry = from.option(|from| {
                let (secret, expires_at) = (Secret::new(from.text()?), from.option(Reader::number)?);
                let generation = from.number()?;
                let presented =
                    from.option(|from| Some(Presented { by: from.option(Reader::lease)?, at: from.number()? }))?;
                Some(Carry { secret, expires_at, generation, presented })
            })?;
            Some(TokenState { token, updater, meta: Meta { granted, invalidated, doubted, pause, fails }, carry })
        })
    }
}

impl EgressState {
    /// Writes the state down.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_option(&mut out, &self.spent, |out, span| put_span(out, *span));
        put_option(&mut out, &self.pause, |out, span| put_span(out, *span));
        out
    }

    /// Reads what [`encode`](EgressState::encode) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if it is no such state, or a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<EgressState, StoreError> {
        read(bytes, |from| Some(EgressState { spent: from.option(Reader::span)?, pause: from.option(Reader::span)? }))
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn put_span(out: &mut Vec<u8>, span: Span) {
    put_number(out, span.ends_at);
    put_number(out, u64::try_from(span.length.as_micros()).unwrap_or(u64::MAX));
}

fn put_lease(out: &mut Vec<u8>, Lease { owner, attempt, generation }: &Lease) {
    put_text(out, owner);
    put_number(out, *attempt);
    put_number(out, *generation);
}

fn put_option<T>(out: &mut Vec<u8>, value: &Option<T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn read<T>(bytes: &[u8], state: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T, StoreError> {
    let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Malformed, message));
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            let mut reader = Reader(rest);
            match state(&mut reader) {
                Some(state) if reader.0.is_empty() => Ok(state),
                _ => refuse("what the store keeps is no state of this library, or was cut; remove it".into()),
            }
        }
        Some((version, _)) => {
            refuse(format!("what the store keeps has version {version}, this library writes {VERSION}; update it"))
        }
        None => refuse("what the store keeps is empty; remove it".into()),
    }
}

/// The bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn span(&mut self) -> Option<Span> {
        Some(Span { ends_at: self.number()?, length: Duration::from_micros(self.number()?) })
    }

    fn lease(&mut self) -> Option<Lease> {
        Some(Lease { owner: self.text()?.into(), attempt: self.number()?, generation: self.number()? })
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        let (is_there, rest) = self.0.split_first()?;
        self.0 = rest;
        match is_there {
            0 => Some(None),
            1 => value(self).map(Some),
            _ => None,
        }
    }
}
