//! A page of HTML with plots of what was seen: one file, nothing to load.

use crate::inspect::{View, when};
use crate::seen::Seen;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

/// How much is kept of each token; beyond it every second sample is given up, and from then on.
const SAMPLES: usize = 20_000;
const EVENTS: usize = 20_000;
/// The size of a plot.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 160.0;

/// What was seen so far.
pub struct Recording {
    begun: SystemTime,
    samples: BTreeMap<String, Vec<Sample>>,
    events: Vec<Event>,
    left_out: usize,
}

struct Sample {
    at: f64,
    left: f64,
    fetching: bool,
    paused: bool,
    budget: f64,
    lost: bool,
}

struct Event {
    at: f64,
    date: String,
    token: String,
    text: String,
    mood: &'static str,
}

impl Recording {
    pub fn new(names: &[String]) -> Recording {
        let samples = names.iter().map(|name| (name.clone(), Vec::new())).collect();
        Recording { begun: SystemTime::now(), samples, events: Vec::new(), left_out: 0 }
    }

    fn since(&self, at: SystemTime) -> f64 {
        at.duration_since(self.begun).map_or(0.0, |since| since.as_secs_f64())
    }

    pub fn sample(&mut self, name: &str, view: &Result<View, String>) {
        let at = self.since(SystemTime::now());
        let seen = view.as_ref().ok().map(|view| &view.seen);
        let sample = Sample {
            at,
            left: seen.and_then(|seen| seen.token).map_or(0.0, |(_, left)| left.as_secs_f64()),
            fetching: seen.is_some_and(|seen| seen.updater.is_some()),
            paused: seen.is_some_and(|seen| seen.pause.is_some()),
            budget: seen.map_or(0.0, |seen| seen.budget_spent.as_secs_f64()),
            lost: view.is_err(),
        };
        let Some(samples) = self.samples.get_mut(name) else { return };
        samples.push(sample);
        if samples.len() > SAMPLES {
            let mut keep = false;
            samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    pub fn event(&mut self, seen: &Seen) {
        if self.events.len() >= EVENTS {
            self.left_out += 1;
            return;
        }
        let (at, date) = (self.since(seen.at), when(seen.at));
        self.events.push(Event { at, date, token: seen.token.clone(), text: seen.what.text(), mood: seen.what.mood() });
    }

    /// Returns the whole page.
    pub fn page(&self) -> String {
        let lasted = self.since(SystemTime::now()).max(0.001);
        let mut text = String::from(HEAD);
        put(&mut text, format_args!("<h1>tkm watch</h1><p>{} to {}</p>\n", when(self.begun), when(SystemTime::now())));
        text += LEGEND;
        for (name, samples) in &self.samples {
            let events = || self.events.iter().filter(|event| event.token == *name);
            let count = |beginning: &str| events().filter(|event| event.text.starts_with(beginning)).count();
            put(
                &mut text,
                format_args!(
                    "<h2>{}</h2><p>{} commits, {} failures, {} doubts, {} invalidations</p>\n",
                    escaped(name),
                    count("committed"),
                    count("fetch failed"),
                    count("doubted"),
                    count("invalidated")
                ),
            );
            plot(&mut text, "seconds left of the token", samples, events(), lasted, |sample| sample.left);
            plot(&mut text, "seconds that the budget is spent ahead", samples, std::iter::empty(), lasted, |sample| {
                sample.budget
            });
        }
        text += "<h2>Events</h2><table><tr><th>when</th><th>token</th><th>what</th></tr>\n";
        for Event { date, token, text: what, mood, .. } in &self.events {
            put(
                &mut text,
                format_args!(
                    "<tr class=\"{mood}\"><td>{date}</td><td>{}</td><td>{}</td></tr>\n",
                    escaped(token),
                    escaped(what)
                ),
            );
        }
        text += "</table>\n";
        if self.left_out > 0 {
            put(&mut text, format_args!("<p>{} more are not shown.</p>\n", self.left_out));
        }
        text + "</body></html>\n"
    }
}

const HEAD: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>tkm watch</title><style>
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1000px; color: #222; }
svg { background: #fafafa; border: 1px solid #ddd; display: block; margin: 4px 0 12px; max-width: 100%; }
table { border-collapse: collapse; } td, th { text-align: left; padding: 2px 12px 2px 0; }
.good { color: #177a2f; } .bad { color: #b3261e; } .doubtful { color: #a15c00; } .plain { color: #20639b; }
</style></head><body>\n";

const LEGEND: &str = "<p>Lines: <b class=\"good\">commits</b>, <b class=\"bad\">failures</b>, <b class=\"doubtful\">doubts and \
invalidations</b>. Shaded: <span style=\"background:#cfe3f5\">fetching</span>, <span style=\"background:#f9d6d2\">paused</span>, \
<span style=\"background:#ddd\">store out of reach</span>.</p>\n";

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments); // writing to a text cannot fail
}

fn plot<'a>(
    text: &mut String,
    title: &str,
    samples: &[Sample],
    events: impl Iterator<Item = &'a Event>,
    lasted: f64,
    value: fn(&Sample) -> f64,
) {
    let most = samples.iter().map(value).fold(0.0, f64::max).max(0.1) * 1.05;
    let x = |at: f64| at / lasted * WIDTH;
    let y = |value: f64| HEIGHT - value / most * HEIGHT;
    put(text, format_args!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><title>{title}</title>\n", HEIGHT + 20.0));
    for pair in samples.windows(2) {
        let color = match &pair[0] {
            sample if sample.lost => "#ddd",
            sample if sample.paused => "#f9d6d2",
            sample if sample.fetching => "#cfe3f5",
            _ => continue,
        };
        let (from, to) = (x(pair[0].at), x(pair[1].at));
        put(
            text,
            format_args!("<rect x=\"{from:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"{color}\"/>\n", to - from),
        );
    }
    for Event { at, text: what, mood, .. } in events.filter(|event| event.mood != "plain") {
        let at = x(*at);
        put(
            text,
            format_args!(
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y2=\"{HEIGHT}\" class=\"{mood}\" stroke=\"currentColor\" stroke-opacity=\"0.6\"><title>{}</title></line>\n",
                escaped(what)
            ),
        );
    }
    let points: Vec<String> =
        samples.iter().map(|sample| format!("{:.1},{:.1}", x(sample.at), y(value(sample)))).collect();
    put(
        text,
        format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#20639b\" stroke-width=\"1.5\"/>\n",
            points.join(" ")
        ),
    );
    put(text, format_args!("<text x=\"4\" y=\"14\" font-size=\"12\">{title}, up to {most:.1}</text>\n"));
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let anchor = ["start", "middle", "middle", "middle", "end"][tick as usize];
        put(
            text,
            format_args!(
                "<text x=\"{:.0}\" y=\"{}\" font-size=\"11\" text-anchor=\"{anchor}\">{:.0} s</text>\n",
                share * WIDTH,
                HEIGHT + 15.0,
                share * lasted
            ),
        );
    }
    *text += "</svg>\n";
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
