//! A screen of tokens that is drawn anew while one looks at it.

use crate::failure::Failure;
use crate::inspect::{View, parts, span, when};
use crate::print;
use crate::seen::Seen;
use rustix::termios::tcgetwinsize;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::io;
use std::time::Duration;

/// How many events are kept for a high screen.
const EVENTS: usize = 200;
/// How wide the bar of what is left is.
const BAR: usize = 20;

/// The terminal, while it shows tokens. Dropping it gives the terminal back as it was.
pub struct Screen {
    events: VecDeque<Seen>,
    /// The longest that was left of each generation: about its life.
    lives: BTreeMap<String, (u64, Duration)>,
}

impl Screen {
    pub fn open() -> Result<Screen, Failure> {
        print("\x1b[?1049h\x1b[?25l")?;
        Ok(Screen { events: VecDeque::new(), lives: BTreeMap::new() })
    }

    pub fn draw(&mut self, views: &BTreeMap<String, Result<View, String>>, seen: Vec<Seen>) -> Result<(), Failure> {
        for event in seen {
            self.events.push_front(event);
        }
        self.events.truncate(EVENTS);
        let (width, height) = tcgetwinsize(io::stdout()).map_or((80, 24), |size| (size.ws_col, size.ws_row));
        let (width, height) = (usize::from(width).max(40), usize::from(height).max(8));
        let mut lines =
            vec![format!("\x1b[1m{:<20} {:<14} {:<BAR$} {:>12}  {}\x1b[0m", "token", "state", "life", "left", "now")];
        for (name, view) in views {
            lines.push(match view {
                Err(why) => format!("{name:<20} \x1b[31m{why}\x1b[0m"),
                Ok(view) => self.row(name, view),
            });
        }
        lines.push(String::new());
        lines.extend(self.events.iter().map(|seen| {
            let color = match seen.what.mood() {
                "good" => "32",
                "bad" => "31",
                "doubtful" => "33",
                _ => "36",
            };
            format!("{} {:<20} \x1b[{color}m{}\x1b[0m", when(seen.at), seen.token, seen.what.text())
        }));
        lines.truncate(height - 1);
        let text = lines.iter().fold("\x1b[H".to_owned(), |text, line| text + &cut(line, width) + "\x1b[K\r\n");
        print(&(text + "\x1b[J"))
    }

    fn row(&mut self, name: &str, view: &View) -> String {
        let (generation, left) = view.seen.token.unwrap_or_default();
        let life = self.lives.entry(name.to_owned()).or_default();
        if life.0 != generation || life.1 < left {
            *life = (generation, left);
        }
        let share = if life.1.is_zero() { 0.0 } else { left.as_secs_f64() / life.1.as_secs_f64() };
        let full = (share * BAR as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(BAR - full.min(BAR)));
        let color = match view.state() {
            "valid" => "32",
            "doubted" | "being fetched" => "33",
            _ => "31",
        };
        let mut now = String::new();
        if let Some((lease, left)) = &view.seen.updater {
            let _ = write!(now, "fetched by {} for {} more ", parts(lease).1, span(*left)); // into a text
        }
        if let Some(pause) = &view.seen.pause {
            let _ = write!(now, "paused for {} ({}) ", span(pause.retry_after), pause.class);
        }
        if view.seen.budget_spent > Duration::ZERO {
            let _ = write!(now, "budget spent {} ahead", span(view.seen.budget_spent));
        }
        format!("{name:<20} \x1b[{color}m{:<14} {bar}\x1b[0m {:>12}  {now}", view.state(), span(left))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone there is nobody to see it.
        let _ = print("\x1b[?25h\x1b[?1049l");
    }
}

/// Cuts a line to what the screen shows, colours not counted.
fn cut(line: &str, width: usize) -> String {
    let (mut shown, mut escape, mut text) = (0, false, String::new());
    for c in line.chars() {
        match (c, escape) {
            ('\x1b', _) => escape = true,
            ('m', true) => {
                escape = false;
                text.push(c);
                continue;
            }
            (_, true) => {}
            _ if shown == width => continue,
            // What others have written must not move the cursor.
            (c, false) if c.is_control() => continue,
            _ => shown += 1,
        }
        text.push(c);
    }
    text
}
