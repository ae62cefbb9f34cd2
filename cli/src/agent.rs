//! `tkm agent`: keeps files fresh and answers on a socket, until it is told to end.

use crate::failure::Failure;
use crate::held::Held;
use crate::keeper::Keeper;
use crate::sink::Sink;
use http::{Answer, Request};
use notify::Notify;
use served::Served;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket::Socket;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use token_manager_config::Config;

mod answers;
pub mod client;
mod hook;
mod http;
mod metrics;
mod notify;
mod served;
mod socket;

/// How often it tells the service manager what it does, at the least.
const TICK: Duration = Duration::from_secs(5);

/// What the agent's own threads tell it.
enum News {
    Signal(i32),
    /// A token was seen for the first time, or another one, or none can be had.
    Changed,
}

/// What the settings made; replaced as a whole.
struct Loaded {
    tokens: BTreeMap<String, Served>,
    socket: Option<std::path::PathBuf>,
    metrics_file: Option<std::path::PathBuf>,
}

type Current = Arc<RwLock<Arc<Loaded>>>;

/// Runs until it is told to end.
pub fn run(path: &Path) -> Result<(), Failure> {
    let notify = Notify::find();
    let (sender, news) = mpsc::channel();
    listen(sender.clone())?;
    let current: Current = Arc::new(RwLock::new(Arc::new(load(path, &sender)?)));
    let mut socket = open_socket(&current, None)?;
    let mut ready = false;
    loop {
        let loaded = now(&current);
        if !ready && loaded.tokens.values().all(Served::settled) {
            ready = true;
            notify.tell("READY=1");
        }
        notify.tell(&format!("STATUS={}", status(&loaded)));
        notify.tell("WATCHDOG=1");
        if let Some(path) = &loaded.metrics_file {
            metrics::write_file(path, &loaded.tokens);
        }
        drop(loaded);
        match wait(&news, notify.watchdog.unwrap_or(TICK).min(TICK)) {
            None | Some(News::Changed) => {}
            Some(News::Signal(SIGHUP)) => {
                notify.reloading();
                reload(path, &sender, &current, &mut socket);
                notify.tell("READY=1");
            }
            Some(News::Signal(_)) => break,
        }
    }
    notify.tell("STOPPING=1");
    drop(socket);
    // The last one out ends the fetches that are under way.
    let last = std::mem::replace(
        &mut *current.write().unwrap_or_else(PoisonError::into_inner),
        Arc::new(Loaded { tokens: BTreeMap::new(), socket: None, metrics_file: None }),
    );
    end(last);
    Ok(())
}

fn now(current: &Current) -> Arc<Loaded> {
    current.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Ends all keepers at once: each waits for its own fetch.
fn end(loaded: Arc<Loaded>) {
    let Ok(loaded) = Arc::try_unwrap(loaded) else { return };
    thread::scope(|scope| {
        for served in loaded.tokens.into_values() {
            scope.spawn(move || drop(served));
        }
    });
}

/// Receives signals from now on.
fn listen(news: Sender<News>) -> Result<(), Failure> {
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| Failure::io("signals cannot be received", &error))?;
    let listen = move || {
        for signal in signals.forever() {
            if news.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("tkm signals".into())
        .spawn(listen)
        .map(drop)
        .map_err(|error| Failure::io("no thread can be started", &error))
}

/// Waits for what is to be done; changes that come together count once.
fn wait(news: &Receiver<News>, at_most: Duration) -> Option<News> {
    let until = Instant::now() + at_most;
    match news.recv_timeout(at_most) {
        Ok(News::Changed) => {
            while let Ok(more) = news.recv_timeout(Duration::from_millis(10)) {
                if let News::Signal(_) = more {
                    return Some(more);
                }
                if Instant::now() > until {
                    break;
                }
            }
            Some(News::Changed)
        }
        Ok(signal) => Some(signal),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
    }
}

fn load(path: &Path, news: &Sender<News>) -> Result<Loaded, Failure> {
    let config = Config::read(path)?;
    if let Some(wrong) = config.check().into_iter().next() {
        return Err(wrong.into());
    }
    let mut tokens = BTreeMap::new();
    for name in config.names() {
        tokens.insert(name.to_owned(), serve(&config, name, news.clone())?);
    }
    let agent = config.agent();
    Ok(Loaded { tokens, socket: agent.socket, metrics_file: agent.metrics_file })
}

/// Begins to keep a token and its files.
fn serve(config: &Config, name: &str, news: Sender<News>) -> Result<Served, Failure> {
    let sinks: Vec<Sink> = config.files(name).iter().map(Sink::new).collect::<Result<_, _>>()?;
    sinks.iter().for_each(Sink::sweep);
    let state = served::State::new();
    let (told, own_name) = (state.clone(), name.to_owned());
    let keeper = Keeper::start(config, name, move |token: Result<&Held, &Failure>| {
        let outcome = match token {
            Ok(held) => write_all(&sinks, &own_name, held),
            Err(failure) => Err(failure.message.clone()),
        };
        if let Err(message) = &outcome {
            log::warn!("{own_name}: {message}");
        }
        told.set(outcome);
        let _ = news.send(News::Changed); // nobody listens when the agent ends
    })?;
    Ok(Served { keeper, state, store: config.store(name)?, place: config.token_name(name)? })
}

/// Writes the files of a token, each if another one cannot be written too.
fn write_all(sinks: &[Sink], name: &str, held: &Held) -> Result<(), String> {
    let mut outcome = Ok(());
    for sink in sinks {
        match sink.write(name, held) {
            Ok(()) => hook::run(sink, name, held.generation),
            Err(failure) => outcome = Err(failure.message),
        }
    }
    outcome
}

fn open_socket(current: &Current, old: Option<Socket>) -> Result<Option<Socket>, Failure> {
    let wanted = now(current).socket.clone();
    match (wanted, old) {
        (Some(path), Some(old)) if old.path() == path => Ok(Some(old)),
        (Some(path), old) => {
            drop(old);
            let current = current.clone();
            Socket::open(&path, move |request: &Request| -> Answer { answers::answer(&now(&current).tokens, request) })
                .map(Some)
        }
        (None, _) => Ok(None),
    }
}

/// Reads the settings anew. Those that cannot be used leave everything as it was.
fn reload(path: &Path, news: &Sender<News>, current: &Current, socket: &mut Option<Socket>) {
    match load(path, news) {
        Err(failure) => log::error!("the settings stay as they were: {}", failure.message),
        Ok(loaded) => {
            let old =
                std::mem::replace(&mut *current.write().unwrap_or_else(PoisonError::into_inner), Arc::new(loaded));
            thread::spawn(move || end(old));
            match open_socket(current, socket.take()) {
                Ok(opened) => *socket = opened,
                Err(failure) => log::error!("{}", failure.message),
            }
        }
    }
}

fn status(loaded: &Loaded) -> String {
    let failed: Vec<&str> =
        loaded.tokens.iter().filter(|(_, served)| served.failed()).map(|(name, _)| name.as_str()).collect();
    match failed.is_empty() {
        true => format!("{} tokens are fresh", loaded.tokens.len()),
        false => format!("{} tokens, of which these are not fresh: {}", loaded.tokens.len(), failed.join(", ")),
    }
}
