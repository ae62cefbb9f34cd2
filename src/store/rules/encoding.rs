//! The states as bytes, for stores that keep them as one value: a version, then the fields in order (`bytes.rs` has the form of each).
//! Encoded states hold secrets in clear.

use super::state::{
    Carry, EgressState, FleetPause, GrantState, Meta, Presented, Span, StoredToken, TokenState, Updater,
};
use crate::bytes::{Reader, Writer};
use crate::error::FailureClass;
use crate::store::{Lease, StoreError, StoreErrorKind};
use crate::token::Secret;

/// Grows with each change of the form, never with the library.
const VERSION: u8 = 1;

impl GrantState {
    /// Writes the state down, secrets in clear.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        put_token(&mut out, &self.grant);
        out.number(self.others.len() as u64);
        for (name, token) in &self.others {
            out.text(name);
            put_token(&mut out, token);
        }
        out.0
    }

    /// Reads what [`encode`](GrantState::encode) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if it is no such state, or a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<GrantState, StoreError> {
        read(bytes, |from| {
            let (grant, count) = (token(from)?, from.number()?);
            let others = (0..count).map(|_| Some((from.text()?.into(), token(from)?))).collect::<Option<_>>()?;
            Some(GrantState { grant, others })
        })
    }
}

impl EgressState {
    /// Writes the state down.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        out.option(&self.spent, |out, span| put_span(out, *span));
        out.option(&self.pause, |out, span| put_span(out, *span));
        out.0
    }

    /// Reads what [`encode`](EgressState::encode) wrote.
    ///
    /// # Errors
    /// [`StoreErrorKind::Malformed`] if it is no such state, or a later version wrote it.
    pub fn decode(bytes: &[u8]) -> Result<EgressState, StoreError> {
        read(bytes, |from| Some(EgressState { spent: from.option(span)?, pause: from.option(span)? }))
    }
}

fn put_token(out: &mut Writer, TokenState { token, updater, meta, carry }: &TokenState) {
    out.option(token, |out, StoredToken { generation, value, life, expires_at }| {
        out.number(*generation);
        out.text(value.reveal());
        put_span(out, Span { ends_at: *expires_at, length: *life });
    });
    out.option(updater, |out, Updater { lease, span }| {
        put_lease(out, lease);
        put_span(out, *span);
    });
    let Meta { granted, invalidated, doubted, latest, pause, fails } = meta;
    for number in [granted, invalidated, doubted, latest, fails] {
        out.number(*number);
    }
    out.option(pause, |out, FleetPause { span, class, generation }| {
        put_span(out, *span);
        out.text(class.as_str());
        out.number(*generation);
    });
    out.option(carry, |out, Carry { secret, expires_at, generation, presented }| {
        out.text(secret.reveal());
        out.option(expires_at, |out, at| out.number(*at));
        out.number(*generation);
        out.option(presented, |out, Presented { by, at }| {
            out.option(by, put_lease);
            out.number(*at);
        });
    });
}

fn token(from: &mut Reader<'_>) -> Option<TokenState> {
    let token = from.option(|from| {
        let (generation, value, span) = (from.number()?, Secret::new(from.text()?), span(from)?);
        Some(StoredToken { generation, value, life: span.length, expires_at: span.ends_at })
    })?;
    let updater = from.option(|from| Some(Updater { lease: lease(from)?, span: span(from)? }))?;
    let [granted, invalidated, doubted, latest, fails] =
        [from.number()?, from.number()?, from.number()?, from.number()?, from.number()?];
    let pause = from.option(|from| {
        let (span, class) = (span(from)?, FailureClass::parse(from.text()?));
        Some(FleetPause { span, class, generation: from.number()? })
    })?;
    let carry = from.option(|from| {
        let (secret, expires_at) = (Secret::new(from.text()?), from.option(Reader::number)?);
        let generation = from.number()?;
        let presented = from.option(|from| Some(Presented { by: from.option(lease)?, at: from.number()? }))?;
        Some(Carry { secret, expires_at, generation, presented })
    })?;
    Some(TokenState { token, updater, meta: Meta { granted, invalidated, doubted, latest, pause, fails }, carry })
}

fn put_span(out: &mut Writer, span: Span) {
    out.number(span.ends_at);
    out.length(span.length);
}

fn span(from: &mut Reader<'_>) -> Option<Span> {
    Some(Span { ends_at: from.number()?, length: from.length()? })
}

fn put_lease(out: &mut Writer, Lease { owner, attempt, generation }: &Lease) {
    out.text(owner);
    out.number(*attempt);
    out.number(*generation);
}

fn lease(from: &mut Reader<'_>) -> Option<Lease> {
    Some(Lease { owner: from.text()?.into(), attempt: from.number()?, generation: from.number()? })
}

fn read<T>(bytes: &[u8], state: impl FnOnce(&mut Reader<'_>) -> Option<T>) -> Result<T, StoreError> {
    let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Malformed, message));
    match Reader::new(bytes) {
        Some((VERSION, mut reader)) => match state(&mut reader) {
            Some(state) if reader.is_at_end() => Ok(state),
            _ => refuse("what the store keeps is no state of this library, or was cut; remove it".into()),
        },
        Some((version, _)) => {
            refuse(format!("what the store keeps has version {version}, this library writes {VERSION}; update it"))
        }
        None => refuse("what the store keeps is empty; remove it".into()),
    }
}
