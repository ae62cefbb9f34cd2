//! What the file of a grant, or of an egress, says: whose it is, the changes announced last, and the encoded state.

use crate::bytes::{Reader, Writer};
use crate::error::FailureClass;
use crate::store::rules::{EgressState, GrantState};
use crate::store::{Change, StoreError, StoreErrorKind};
use std::collections::VecDeque;

/// Grows with each change of the form, never with the library; the states have versions of their own.
const VERSION: u8 = 1;
/// How many changes are kept for those who have not read them yet.
const KEPT: usize = 16;

/// Whose file it is: namespace, group, then the name of the grant or of the egress.
pub type Owner<'a> = [&'a str; 3];

/// The changes announced so far: how many, and the last of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Announced {
    count: u64,
    last: VecDeque<Change>,
}

/// The state of a grant, as its file keeps it.
#[derive(Clone, Default)]
pub struct GrantRecord {
    pub state: GrantState,
    pub announced: Announced,
}

impl Announced {
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn add(&mut self, changes: Vec<Change>) {
        self.count += changes.len() as u64;
        self.last.extend(changes);
        self.last.drain(..self.last.len().saturating_sub(KEPT));
    }

    /// Returns the changes after so many; `None` if some of them are not kept any more, or there never were so many.
    pub fn after(&self, count: u64) -> Option<impl Iterator<Item = Change> + '_> {
        let new = usize::try_from(self.count.checked_sub(count)?).ok()?;
        (new <= self.last.len()).then(|| self.last.range(self.last.len() - new..).copied())
    }
}

impl GrantRecord {
    pub fn encode(&self, owner: Owner<'_>) -> Vec<u8> {
        let mut out = begin("grant", owner);
        out.number(self.announced.count);
        out.number(self.announced.last.len() as u64);
        for change in &self.announced.last {
            let (kind, generation) = match change {
                Change::Committed(generation) => ("committed", *generation),
                Change::Doubted(generation) => ("doubted", *generation),
                Change::Invalidated(generation) => ("invalidated", *generation),
                Change::Failed(class) => (class.as_str(), 0),
            };
            out.text(kind);
            out.number(generation);
        }
        out.0.extend(self.state.encode());
        out.0
    }

    pub fn decode(bytes: &[u8], owner: Owner<'_>) -> Result<GrantRecord, StoreError> {
        if bytes.is_empty() {
            return Ok(GrantRecord::default());
        }
        let mut from = opened(bytes, "grant", owner)?;
        let announced = announced(&mut from).ok_or_else(foreign)?;
        Ok(GrantRecord { state: GrantState::decode(from.rest())?, announced })
    }
}

fn announced(from: &mut Reader<'_>) -> Option<Announced> {
    let (count, kept) = (from.number()?, from.number()?);
    let change = |from: &mut Reader<'_>| {
        let (kind, generation) = (from.text()?, from.number()?);
        Some(match kind {
            "committed" => Change::Committed(generation),
            "doubted" => Change::Doubted(generation),
            "invalidated" => Change::Invalidated(generation),
            class => Change::Failed(FailureClass::parse(class)),
        })
    };
    let last = (0..kept).map(|_| change(from)).collect::<Option<_>>()?;
    Some(Announced { count, last })
}

pub fn encode_egress(state: &EgressState, owner: Owner<'_>) -> Vec<u8> {
    let mut out = begin("egress", owner);
    out.0.extend(state.encode());
    out.0
}

pub fn decode_egress(bytes: &[u8], owner: Owner<'_>) -> Result<EgressState, StoreError> {
    match bytes {
        [] => Ok(EgressState::default()),
        bytes => EgressState::decode(opened(bytes, "egress", owner)?.rest()),
    }
}

fn begin(kind: &str, owner: Owner<'_>) -> Writer {
    let mut out = Writer::new(VERSION);
    [kind].into_iter().chain(owner).for_each(|word| out.text(word));
    out
}

fn opened<'a>(bytes: &'a [u8], kind: &str, owner: Owner<'_>) -> Result<Reader<'a>, StoreError> {
    let (version, mut from) = Reader::new(bytes).ok_or_else(foreign)?;
    if version != VERSION {
        let message = format!("a file of the store has version {version}, this library writes {VERSION}; update it");
        return Err(StoreError::new(StoreErrorKind::Malformed, message));
    }
    for word in [kind].into_iter().chain(owner) {
        from.text().filter(|found| *found == word).ok_or_else(foreign)?;
    }
    Ok(from)
}

/// Returns the kind and the owner that a file names, if it does.
pub fn owner(bytes: &[u8]) -> Option<(String, [String; 3])> {
    let (VERSION, mut from) = Reader::new(bytes)? else { return None };
    let mut word = || from.text().map(str::to_owned);
    Some((word()?, [word()?, word()?, word()?]))
}

fn foreign() -> StoreError {
    let message = "a file of the store holds something else than its name says; remove it";
    StoreError::new(StoreErrorKind::Malformed, message)
}
