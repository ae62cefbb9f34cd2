//! What managers have counted, as a text that monitoring systems read.

use crate::manager::TokenManager;
use crate::stats::{Histogram, Stats};
use crate::store::TokenName;
use std::fmt::Write;

/// Returns what these managers have counted in this process as OpenMetrics text (version 1.0.0), which Prometheus and others read;
/// serve it as `application/openmetrics-text; version=1.0.0; charset=utf-8`. Every name begins with `token_manager_`; the labels
/// `namespace`, `group` and `token` tell the managers apart. Times are in seconds. Holds no secret.
pub fn openmetrics<'a, M: Counted + 'a>(managers: impl IntoIterator<Item = &'a M>) -> String {
    let managers: Vec<_> =
        managers.into_iter().map(|manager| (labels(manager.counted_as()), manager.stats())).collect();
    let mut text = Text { managers: &managers, out: String::new() };
    text.counter("flights", "Flights started.", |stats| stats.flights);
    text.counter("fetches", "Calls of the token source.", |stats| stats.fetches);
    text.counters("failures", "Calls of the token source that failed.", "class", |stats| {
        stats.failures_by_class.iter().map(|(class, count)| (class.as_str(), count)).collect()
    });
    text.counter("adopted", "Tokens taken into use, fetched here or elsewhere.", |stats| stats.adopted);
    text.counter("timeouts", "Callers whose deadline passed.", |stats| stats.timeouts);
    text.counter("takeovers", "Fetches begun after the updater had fallen silent.", |stats| stats.takeovers);
    text.counter("doubts", "Tokens that were doubted.", |stats| stats.doubts);
    text.counter("limited", "Flights that the budget allowed no fetch.", |stats| stats.limited);
    text.counter("invalidated", "Generations invalidated here.", |stats| stats.invalidated);
    text.counters("store_errors", "What the store could not do.", "kind", |stats| {
        stats.store_errors.iter().map(|(kind, count)| (kind.as_str(), count)).collect()
    });
    text.histogram("wait", "How long callers waited that had to.", |stats| &stats.wait_times);
    text.histogram("fetch", "How long calls of the token source took that brought a token.", |stats| {
        &stats.fetch_times
    });
    text.gauge("abandoned", "", "Token sources that overran their limit and still run.", |stats| {
        Some(stats.abandoned as f64)
    });
    text.gauge("time_to_expiry", "seconds", "How long the token at hand may still be used.", |stats| {
        stats.expires_in.map(|left| left.as_secs_f64())
    });
    text.out + "# EOF\n"
}

/// What counts what it does: a [`TokenManager`], or the [`TokenManagers`](crate::TokenManagers) of many keys together.
pub trait Counted {
    /// Returns the name under which it is counted.
    fn counted_as(&self) -> &TokenName;
    /// Returns what has been counted.
    fn stats(&self) -> Stats;
}

impl Counted for TokenManager {
    fn counted_as(&self) -> &TokenName {
        self.name()
    }

    fn stats(&self) -> Stats {
        self.stats()
    }
}

/// The labels of a name. Its words have no control characters, but may have quotes and backslashes.
fn labels(name: &TokenName) -> String {
    let escaped = |word: &str| word.replace('\\', r"\\").replace('"', r#"\""#);
    let [namespace, group, token] = [&name.namespace, &name.group, &name.name].map(|word| escaped(word));
    format!(r#"namespace="{namespace}",group="{group}",token="{token}""#)
}

struct Text<'a> {
    managers: &'a [(String, Stats)],
    out: String,
}

impl Text<'_> {
    fn counter(&mut self, name: &str, help: &str, of: impl Fn(&Stats) -> u64) {
        self.head(name, "counter", "", help);
        for (labels, stats) in self.managers {
            self.out += &format!("token_manager_{name}_total{{{labels}}} {}\n", of(stats));
        }
    }

    fn counters(&mut self, name: &str, help: &str, by: &str, of: impl Fn(&Stats) -> Vec<(&'static str, u64)>) {
        self.head(name, "counter", "", help);
        for (labels, stats) in self.managers {
            for (value, count) in of(stats) {
                self.out += &format!("token_manager_{name}_total{{{labels},{by}=\"{value}\"}} {count}\n");
            }
        }
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, of: impl Fn(&Stats) -> Option<f64>) {
        let name = if unit.is_empty() { name.to_owned() } else { format!("{name}_{unit}") };
        self.head(&name, "gauge", unit, help);
        for (labels, stats) in self.managers {
            if let Some(value) = of(stats) {
                self.out += &format!("token_manager_{name}{{{labels}}} {value}\n");
            }
        }
    }

    fn histogram(&mut self, name: &str, help: &str, of: impl Fn(&Stats) -> &Histogram) {
        let name = format!("{name}_seconds");
        self.head(&name, "histogram", "seconds", help);
        for (labels, stats) in self.managers {
            let times = of(stats);
            for (bound, count) in times.cumulative() {
                let bound = bound.map_or("+Inf".to_owned(), |bound| format!("{:?}", bound.as_secs_f64()));
                self.out += &format!("token_manager_{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n");
            }
            let (count, sum) = (times.count(), times.sum().as_secs_f64());
            self.out += &format!("token_manager_{name}_count{{{labels}}} {count}\n");
            self.out += &format!("token_manager_{name}_sum{{{labels}}} {sum}\n");
        }
    }

    fn head(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# TYPE token_manager_{name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.out, "# UNIT token_manager_{name} {unit}");
        }
        let _ = writeln!(self.out, "# HELP token_manager_{name} {help}");
    }
}
