//! What a worker's calls came to, counted in each thread, added up and written as one line.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;
use token_manager::{Error, ErrorKind, Token};

/// What calls came to.
#[derive(Default)]
pub struct Summary {
    pub ok: u64,
    errors: BTreeMap<String, u64>,
    /// The words of one of the errors, causes included.
    words: String,
    secrets: HashSet<String>,
    generations: Option<(u64, u64)>,
    pub worst: Duration,
    pub late: u64,
    /// Tokens older than one that this process had handed out before the call.
    back: u64,
    /// Tokens that had expired at the issuer for longer than a busy machine explains.
    pub stale: u64,
}

impl Summary {
    /// Counts a token; `newest` is the newest generation that was handed out before the call.
    pub fn served(&mut self, token: &Token, newest: u64) {
        let generation = token.generation();
        self.ok += 1;
        self.back += u64::from(generation < newest);
        let (low, high) = self.generations.unwrap_or((generation, generation));
        self.generations = Some((low.min(generation), high.max(generation)));
        self.secrets.insert(token.secret().to_owned());
    }

    /// Counts an error.
    pub fn failed(&mut self, error: &Error) {
        *self.errors.entry(kind(error)).or_default() += 1;
        self.words = words(error);
    }

    /// Adds what another thread's calls came to.
    pub fn and(mut self, other: Summary) -> Summary {
        self.ok += other.ok;
        self.late += other.late;
        self.back += other.back;
        self.stale += other.stale;
        self.worst = self.worst.max(other.worst);
        self.secrets.extend(other.secrets);
        other.errors.into_iter().for_each(|(kind, count)| *self.errors.entry(kind).or_default() += count);
        self.words = if self.words.is_empty() { other.words } else { self.words };
        self.generations = match (self.generations, other.generations) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        self
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<_> = self.errors.iter().map(|(kind, count)| format!("{kind}:{count}")).collect();
        let secrets: Vec<_> = self.secrets.iter().map(String::as_str).collect();
        let (low, high) = self.generations.unwrap_or_default();
        write!(
            f,
            "ok={} errors={} tokens={} low={low} high={high} worst={} late={} back={} stale={} secrets={} words={}",
            self.ok,
            errors.join(","),
            self.secrets.len(),
            self.worst.as_millis(),
            self.late,
            self.back,
            self.stale,
            // A long run has had many; the parent only ever looks at a few.
            if secrets.len() > 5 { String::new() } else { secrets.join(",") },
            self.words.replace(' ', "_"),
        )
    }
}

fn kind(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Source(class) => format!("source-{class}"),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

fn words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words.replace(['\n', '\r'], " ")
}
