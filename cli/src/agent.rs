//! `tkm agent`: keeps files fresh and answers on a socket, until it is told to end.

use crate::failure::Failure;
use http::{Answer, Request};
use loaded::{Current, Loaded};
use notify::Notify;
use served::Served;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket::Socket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

mod answers;
pub mod client;
mod files;
mod hook;
mod http;
mod loaded;
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

/// What the main thread has in hand.
struct Agent {
    settings: PathBuf,
    notify: Notify,
    sender: Sender<News>,
    current: Current,
    socket: Option<Socket>,
    /// Why the newest settings were not taken.
    refused: Option<String>,
    /// What was loaded before and has not finished, with its limit.
    leaving: Vec<(Duration, JoinHandle<()>)>,
}

/// Runs until it is told to end.
pub fn run(path: &Path) -> Result<(), Failure> {
    let (sender, news) = mpsc::channel();
    listen(sender.clone())?;
    let (notify, current) = (Notify::find(), Current::default());
    let (settings, socket, refused, leaving) = (path.to_owned(), None, None, Vec::new());
    let mut agent = Agent { settings, notify, sender, current, socket, refused, leaving };
    drop(agent.load()?);
    let mut ready = false;
    loop {
        ready = agent.tell(ready);
        match wait(&news, agent.tick()) {
            None | Some(News::Changed) => {}
            Some(News::Signal(SIGHUP)) => agent.reload(),
            Some(News::Signal(_)) => break,
        }
    }
    agent.end();
    Ok(())
}

impl Agent {
    fn tick(&self) -> Duration {
        self.notify.watchdog.unwrap_or(TICK).min(TICK)
    }

    /// Tells how it goes; returns whether the agent has said that it is ready.
    fn tell(&self, mut ready: bool) -> bool {
        let loaded = self.current.get();
        if !ready && loaded.tokens.values().all(Served::settled) {
            ready = true;
            self.notify.tell("READY=1");
        }
        let refused = self.refused.iter().map(|why| format!("; the newest settings were not taken: {why}"));
        let status = loaded.status() + &refused.collect::<String>();
        self.notify.tell(&format!("STATUS={}", status.replace('\n', " ")));
        self.notify.tell("WATCHDOG=1");
        if let Some(path) = &loaded.metrics_file {
            metrics::write_file(path, &loaded.tokens);
        }
        ready
    }

    /// Takes the settings of the file and returns what was loaded before. Settings that cannot be used leave all as it was.
    fn load(&mut self) -> Result<Arc<Loaded>, Failure> {
        let old = self.current.get();
        let config = loaded::read(&self.settings, &old)?;
        let wanted = config.agent().socket;
        let stays = self.socket.take_if(|open| Some(open.path()) == wanted.as_deref() && open.is_there());
        let opened = match (&stays, &wanted) {
            (None, Some(path)) => self.open(path).map(Some),
            _ => Ok(None),
        };
        let sender = self.sender.clone();
        let changed = move || drop(sender.send(News::Changed)); // nobody listens when the agent ends
        let prepared = opened.and_then(|opened| Ok((opened, Loaded::prepare(config, changed)?)));
        let (opened, prepared) = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                self.socket = stays.or(self.socket.take());
                return Err(failure);
            }
        };
        let old = self.current.replace(prepared);
        if let Some(opened) = &opened {
            opened.begin();
        }
        self.socket = stays.or(opened);
        Ok(old)
    }

    fn open(&self, path: &Path) -> Result<Socket, Failure> {
        let current = self.current.clone();
        Socket::open(path, move |request: &Request| -> Answer { answers::answer(&current.get().tokens, request) })
    }

    fn reload(&mut self) {
        self.notify.reloading();
        self.refused = match self.load() {
            Ok(old) => {
                self.leave(old);
                None
            }
            Err(failure) => {
                log::error!("the settings stay as they were: {}", failure.message);
                Some(failure.message)
            }
        };
        self.notify.tell("READY=1");
    }

    /// Finishes what was loaded before; its fetches may take their time.
    fn leave(&mut self, old: Arc<Loaded>) {
        self.leaving.retain(|(_, thread)| !thread.is_finished());
        let limit = old.limit();
        match thread::Builder::new().name("tkm leaving".into()).spawn(move || old.finish()) {
            Ok(thread) => self.leaving.push((limit, thread)),
            Err(error) => {
                log::warn!("no thread can be started, so fetches of the old settings are not awaited: {error}")
            }
        }
    }

    /// Waits for what is under way, so long as it may take, and goes on telling that the agent lives.
    fn end(self) {
        let loaded = self.current.get();
        let limits = self.leaving.iter().map(|(limit, _)| *limit).chain([loaded.limit()]);
        let limit = limits.max().unwrap_or_default() + socket::WRITE;
        let (micros, seconds) = (limit.as_micros(), limit.as_secs());
        let what = format!("ending; what is under way has {seconds} seconds");
        self.notify.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS={what}"));
        let (tick, socket, leaving) = (self.tick(), self.socket, self.leaving);
        let (ended, end) = mpsc::channel::<()>();
        let finish = move || {
            socket.iter().for_each(Socket::close);
            loaded.finish();
            leaving.into_iter().for_each(|(_, thread)| drop(thread.join())); // a panic in it has been told already
            socket.iter().for_each(Socket::finish);
            drop(ended);
        };
        if let Err(error) = thread::Builder::new().name("tkm end".into()).spawn(finish) {
            return log::warn!("no thread can be started, so nothing under way is awaited: {error}");
        }
        let until = Instant::now() + limit + TICK;
        while end.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) && Instant::now() < until {
            self.notify.tell("WATCHDOG=1");
        }
    }
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
