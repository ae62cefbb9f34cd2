//! What is counted, told to the recorder of the crate `metrics`, under the names that `openmetrics` gives it.

use crate::error::FailureClass;
use crate::stats::Count;
use crate::store::{StoreErrorKind, TokenName};
use metrics::{Label, counter, histogram};
use std::time::Duration;

pub fn count(name: &TokenName, what: Count) {
    let counted = match what {
        Count::Flight => "token_manager_flights_total",
        Count::Fetch => "token_manager_fetches_total",
        Count::Adopted => "token_manager_adopted_total",
        Count::Wait => return, // the histogram counts them
        Count::Timeout => "token_manager_timeouts_total",
        Count::Takeover => "token_manager_takeovers_total",
        Count::Doubt => "token_manager_doubts_total",
        Count::Limited => "token_manager_limited_total",
        Count::Invalidated => "token_manager_invalidated_total",
    };
    counter!(counted, labels(name, None)).increment(1);
}

pub fn failed(name: &TokenName, class: FailureClass) {
    counter!("token_manager_failures_total", labels(name, Some(("class", class.as_str())))).increment(1);
}

pub fn store_failed(name: &TokenName, kind: StoreErrorKind) {
    counter!("token_manager_store_errors_total", labels(name, Some(("kind", kind.as_str())))).increment(1);
}

pub fn waited(name: &TokenName, span: Duration) {
    histogram!("token_manager_wait_seconds", labels(name, None)).record(span);
}

pub fn fetched_in(name: &TokenName, span: Duration) {
    histogram!("token_manager_fetch_seconds", labels(name, None)).record(span);
}

fn labels(name: &TokenName, more: Option<(&'static str, &'static str)>) -> Vec<Label> {
    let TokenName { namespace, group, name, .. } = name;
    let own = [("namespace", namespace), ("group", group), ("token", name)];
    let own = own.map(|(label, word)| Label::new(label, word.to_string()));
    own.into_iter().chain(more.map(|(label, word)| Label::new(label, word))).collect()
}
