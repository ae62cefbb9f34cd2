//! `tkm inspect`: all that the store knows of a token.

use crate::args::Args;
use crate::failure::Failure;
use crate::output::date;
use crate::print;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use token_manager::store::{Inspection, TokenName};
use token_manager_config::Config;

/// What the store knows of a token, and where it is.
pub struct View {
    pub name: String,
    place: TokenName,
    store: String,
    egress: String,
    pub seen: Inspection,
}

impl View {
    pub fn of(config: &Config, name: &str) -> Result<View, Failure> {
        let (store, place, egress) =
            (config.store_to_look_at(name)?, config.token_name(name)?, config.egress(name).to_owned());
        let seen = store.inspect(&place, &egress)?;
        Ok(View { name: name.to_owned(), place, store: store.place(), egress, seen })
    }

    /// Returns the state of the token in one word.
    pub fn state(&self) -> &'static str {
        match (&self.seen.token, &self.seen.updater, &self.seen.pause) {
            (Some((generation, _)), ..) if *generation <= self.seen.invalidated => "invalid",
            (Some((generation, _)), ..) if *generation <= self.seen.doubted => "doubted",
            (Some(_), ..) => "valid",
            (None, Some(_), _) => "being fetched",
            (None, None, Some(_)) => "absent, paused",
            (None, None, None) => "absent",
        }
    }

    fn json(&self) -> Value {
        let Inspection { token, updater, granted, invalidated, doubted, pause, fails, carries, budget_spent, .. } =
            &self.seen;
        let millis = |span: &Duration| span.as_millis() as u64;
        json!({
            "name": self.name,
            "place": self.place.to_string(),
            "grant": self.place.of_grant().to_string(),
            "store": self.store,
            "egress": self.egress,
            "state": self.state(),
            "token": token.as_ref().map(|(generation, left)| json!({
                "generation": generation,
                "left_ms": millis(left),
                "age_ms": age(*generation).map(|age| millis(&age)),
            })),
            "updater": updater.as_ref().map(|(lease, left)| {
                let (generation, owner, attempt) = parts(lease);
                json!({ "owner": owner, "attempt": attempt, "generation": generation, "lease_left_ms": millis(left) })
            }),
            "granted": granted,
            "invalidated": invalidated,
            "doubted": doubted,
            "pause": pause.as_ref().map(|pause| json!({ "class": pause.class.as_str(), "left_ms": millis(&pause.retry_after) })),
            "fails": fails,
            "carries": carries,
            "budget_spent_ms": millis(budget_spent),
        })
    }

    fn lines(&self) -> String {
        let Inspection { token, updater, granted, invalidated, doubted, pause, fails, carries, budget_spent, .. } =
            &self.seen;
        let token = token.as_ref().map(|(generation, left)| {
            let age = age(*generation).map(|age| format!(", granted {} ago", span(age))).unwrap_or_default();
            format!("generation {generation}{age}, {} left", span(*left))
        });
        let updater = updater.as_ref().map(|(lease, left)| {
            let (generation, owner, attempt) = parts(lease);
            format!("{owner} fetches generation {generation} (flight {attempt}), its lease has {} left", span(*left))
        });
        let pause = pause
            .as_ref()
            .map(|pause| format!("{} after {fails} failures in a row, {} left", pause.class, span(pause.retry_after)));
        let mark = |generation: &u64| (*generation > 0).then(|| format!("up to generation {generation}"));
        let none = || "none".to_owned();
        let rows = [
            ("state", self.state().to_owned()),
            ("token", token.unwrap_or_else(none)),
            ("updater", updater.unwrap_or_else(none)),
            ("last grant", if *granted > 0 { format!("generation {granted}") } else { none() }),
            ("invalidated", mark(invalidated).unwrap_or_else(none)),
            ("doubted", mark(doubted).unwrap_or_else(none)),
            ("pause", pause.unwrap_or_else(none)),
            ("budget", format!("spent {} ahead", span(*budget_spent))),
            ("carry", if *carries { "kept for the next fetch".to_owned() } else { none() }),
        ];
        let head =
            format!("{}\n  {:<12} {} in {}, egress {}\n", self.name, "place", self.place, self.store, self.egress);
        rows.iter().fold(head, |text, (what, value)| text + &format!("  {what:<12} {value}\n"))
    }
}

/// A generation is a time, in microseconds, unless clocks were set back.
fn age(generation: u64) -> Option<Duration> {
    let granted = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(generation))?;
    granted.elapsed().ok().filter(|age| *age < Duration::from_secs(30 * 86_400))
}

/// Takes the updater's lease, `<generation>:<owner>:<attempt>`, apart.
pub fn parts(lease: &str) -> (&str, &str, &str) {
    let (generation, rest) = lease.split_once(':').unwrap_or((lease, ""));
    let (owner, attempt) = rest.rsplit_once(':').unwrap_or((rest, ""));
    (generation, owner, attempt)
}

/// Writes a span as people read it.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Writes the time of day and date.
pub fn when(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).map(|since| date(since.as_secs() as i64)).unwrap_or_default()
}

/// Returns the token that is named, or all of the settings.
pub fn names(config: &Config, args: &Args) -> Result<Vec<String>, Failure> {
    args.check_values(1)?;
    let all = || config.names().map(str::to_owned).collect();
    let named = args.values.first().map(|name| config.token_name(name).map(|_| vec![name.clone()]));
    Ok(named.transpose()?.unwrap_or_else(all))
}

pub fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let views: Vec<View> = names(config, args)?.iter().map(|name| View::of(config, name)).collect::<Result<_, _>>()?;
    print(&match args.json() {
        true => Value::Array(views.iter().map(View::json).collect()).to_string() + "\n",
        false => views.iter().map(View::lines).collect::<Vec<_>>().join("\n"),
    })
}
