//! `tkm watch`: what happens to tokens while it happens, on a screen, in lines, or in a page that is kept.

use crate::args::Args;
use crate::failure::Failure;
use crate::inspect::{self, View, parts, when};
use crate::page::Recording;
use crate::print;
use crate::screen::Screen;
use crate::seen::{Seen, What};
use crate::sink::Sink;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use token_manager::Store;
use token_manager::store::TokenName;
use token_manager_config::Config;

/// How often the store is looked at, and a lost subscription made anew.
const LOOK: Duration = Duration::from_millis(500);
/// How often a recording is written, so that a kill does not lose it.
const KEEP: Duration = Duration::from_secs(10);

pub fn run(config: &Config, args: &Args) -> Result<(), Failure> {
    let names = inspect::names(config, args)?;
    let until = args.span("for")?.map(|span| Instant::now() + span);
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, stop.clone()).map_err(|error| Failure::io("signals cannot be received", &error))?;
    }
    let (sender, news) = mpsc::channel();
    for name in &names {
        let (store, place) = (config.store(name)?, config.token_name(name)?);
        let (name, sender) = (name.clone(), sender.clone());
        thread::spawn(move || listen(&*store, &place, &name, &sender));
    }
    let mut recording = args.option("record").map(|path| (Sink::readable(PathBuf::from(path)), Recording::new(&names)));
    let mut screen = io::stdout().is_terminal().then(Screen::open).transpose()?;
    let (mut last, mut views, mut kept) = (BTreeMap::new(), BTreeMap::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
        let mut seen = Vec::new();
        for name in &names {
            let view = View::of(config, name).map_err(|failure| failure.message);
            compare(name, last.insert(name.clone(), Known::of(&view)), &view, &mut seen);
            if let Some((_, recording)) = &mut recording {
                recording.sample(name, &view);
            }
            views.insert(name.clone(), view);
        }
        let next =
            Instant::now() + until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()).min(LOOK));
        while let Ok(event) = news.recv_timeout(next.saturating_duration_since(Instant::now())) {
            // A screen is drawn at once; lines are written one by one.
            seen.push(event);
            if screen.is_none() || seen.len() > 100 {
                break;
            }
        }
        if let Some((_, recording)) = &mut recording {
            seen.iter().for_each(|seen| recording.event(seen));
        }
        match &mut screen {
            Some(screen) => screen.draw(&views, seen)?,
            None => seen
                .iter()
                .try_for_each(|Seen { at, token, what }| print(&format!("{} {token} {}\n", when(*at), what.text())))?,
        }
        if kept.elapsed() > KEEP {
            kept = Instant::now();
            keep(recording.as_ref())?;
        }
    }
    drop(screen);
    keep(recording.as_ref())
}

fn keep(recording: Option<&(Sink, Recording)>) -> Result<(), Failure> {
    recording.map_or(Ok(()), |(sink, recording)| sink.write_text(&recording.page()))
}

/// Hands on the store's events, for as long as anybody wants them.
fn listen(store: &dyn Store, place: &TokenName, name: &str, news: &Sender<Seen>) {
    loop {
        if let Ok(mut subscription) = store.subscribe(place) {
            while let Ok(change) = subscription.wait(Duration::from_secs(5)) {
                match change {
                    None if subscription.check().is_err() => break,
                    None => {}
                    Some(change) => {
                        let seen = Seen { at: SystemTime::now(), token: name.to_owned(), what: What::Change(change) };
                        if news.send(seen).is_err() {
                            return;
                        }
                    }
                }
            }
        }
        thread::sleep(LOOK);
    }
}

/// What was seen last, to tell what is new; events alone do not tell of it.
struct Known {
    lost: bool,
    updater: Option<String>,
    paused: bool,
    has_token: bool,
}

impl Known {
    fn of(view: &Result<View, String>) -> Known {
        let seen = view.as_ref().ok().map(|view| &view.seen);
        Known {
            lost: view.is_err(),
            updater: seen.and_then(|seen| Some(seen.updater.as_ref()?.0.clone())),
            paused: seen.is_some_and(|seen| seen.pause.is_some()),
            has_token: seen.is_some_and(|seen| seen.token.is_some()),
        }
    }
}

fn compare(name: &str, last: Option<Known>, view: &Result<View, String>, seen: &mut Vec<Seen>) {
    let mut add = |what| seen.push(Seen { at: SystemTime::now(), token: name.to_owned(), what });
    let lost = last.as_ref().is_some_and(|last| last.lost);
    let view = match view {
        Err(_) if lost => return,
        Err(why) => return add(What::StoreLost(why.clone())),
        Ok(view) => &view.seen,
    };
    if lost {
        add(What::StoreBack);
    }
    if let Some((lease, _)) = &view.updater
        && last.as_ref().is_none_or(|last| last.updater.as_ref() != Some(lease))
    {
        add(What::Fetching(parts(lease).1.to_owned()));
    }
    match (&view.pause, last.as_ref().is_some_and(|last| last.paused)) {
        (Some(pause), false) => add(What::Paused(pause.class.as_str(), pause.retry_after)),
        (None, true) => add(What::Resumed),
        _ => {}
    }
    if view.token.is_none() && last.as_ref().is_some_and(|last| last.has_token) {
        add(What::Gone);
    }
}
