//! Something that was seen to happen, in words.

use crate::inspect::span;
use std::time::{Duration, SystemTime};
use token_manager::store::Change;

/// Something that happened to a token.
pub struct Seen {
    pub at: SystemTime,
    pub token: String,
    pub what: What,
}

pub enum What {
    Change(Change),
    /// An updater is at work, of this owner.
    Fetching(String),
    /// A pause began, of this class and length.
    Paused(&'static str, Duration),
    Resumed,
    /// There is no token any more.
    Gone,
    /// The store cannot be asked, for this reason; or it can again.
    StoreLost(String),
    StoreBack,
}

impl What {
    pub fn text(&self) -> String {
        match self {
            What::Change(Change::Committed(generation)) => format!("committed generation {generation}"),
            What::Change(Change::Doubted(generation)) => format!("doubted up to generation {generation}"),
            What::Change(Change::Invalidated(generation)) => format!("invalidated up to generation {generation}"),
            What::Change(Change::Failed(class)) => format!("fetch failed: {class}"),
            What::Change(_) => "changed".into(),
            What::Fetching(owner) => format!("being fetched by {owner}"),
            What::Paused(class, left) => format!("paused for {}: {class}", span(*left)),
            What::Resumed => "pause is over".into(),
            What::Gone => "expired".into(),
            What::StoreLost(why) => format!("the store cannot be asked: {why}"),
            What::StoreBack => "the store answers again".into(),
        }
    }

    /// Returns one of four words: good, bad, doubtful, plain.
    pub fn mood(&self) -> &'static str {
        match self {
            What::Change(Change::Committed(_)) | What::StoreBack | What::Resumed => "good",
            What::Change(Change::Failed(_)) | What::StoreLost(_) | What::Paused(..) => "bad",
            What::Change(Change::Doubted(_) | Change::Invalidated(_)) | What::Gone => "doubtful",
            _ => "plain",
        }
    }
}
