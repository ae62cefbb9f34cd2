//! Follows a token and hands on each new one, again and again until it is taken.

use crate::failure::Failure;
use crate::held::Held;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use token_manager::{Error, Event, FreshGuard, TokenManager};
use token_manager_config::Config;

/// How often it looks, whatever events tell; and how soon a token that was not taken is handed on again, at first.
const LOOK: Duration = Duration::from_secs(1);
/// How long it waits at the most before it hands such a token on again.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// A manager whose token is kept fresh, and the thread that hands on each new one. Dropping it ends both, in order.
pub struct Keeper {
    pub manager: TokenManager,
    course: Arc<Course>,
    limit: Duration,
}

/// What the keeper and its thread tell each other.
#[derive(Default)]
struct Course {
    now: Mutex<Now>,
    changed: Condvar,
    /// Held during each step, so that none is under way once the keeper has been ended.
    stepping: Mutex<()>,
    fresh: Mutex<Option<FreshGuard>>,
}

#[derive(Default)]
struct Now {
    begun: bool,
    news: bool,
    ended: bool,
    finished: bool,
    over: bool,
}

/// One handing on, which takes a step for each thing that it changes.
pub struct Turn<'a> {
    manager: &'a TokenManager,
    course: &'a Course,
    generation: u64,
}

impl Turn<'_> {
    /// Takes a step, unless the keeper has been ended or has a newer token by now: then nothing happens.
    pub fn step<T>(&self, step: impl FnOnce() -> T) -> Option<T> {
        let _stepping = lock(&self.course.stepping);
        let outdated = || self.manager.get_within(Duration::ZERO).is_ok_and(|now| now.generation() != self.generation);
        (!lock(&self.course.now).ended && !outdated()).then(step)
    }
}

impl Keeper {
    /// Makes a keeper that does nothing before it is told to [`begin`](Keeper::begin). `tell` is then called with each new token, and
    /// with each failure that is not the last one again; it returns whether the token was taken, and is called again if it was not.
    pub fn prepare(
        config: &Config,
        name: &str,
        mut tell: impl FnMut(Result<&Held, &Failure>, &Turn<'_>) -> bool + Send + 'static,
    ) -> Result<Keeper, Failure> {
        let course = Arc::new(Course::default());
        let observer = course.clone();
        let builder = config.builder(name)?.observer(move |event: &Event| {
            if matches!(event, Event::Adopted { .. } | Event::Invalidated { .. }) {
                observer.change(|now| now.news = true);
            }
        });
        let manager = config.build(name, builder)?;
        let follow = {
            let (manager, over) = (manager.clone(), Over(course.clone()));
            move || follow(&manager, &over.0, &mut tell)
        };
        let thread = thread::Builder::new().name(format!("tkm {name}")).spawn(follow);
        thread.map_err(|error| Failure::io("no thread can be started", &error))?;
        Ok(Keeper { manager, course, limit: config.fetch_limit(name) + LOOK })
    }

    /// As [`prepare`](Keeper::prepare), and begins at once.
    pub fn start(
        config: &Config,
        name: &str,
        tell: impl FnMut(Result<&Held, &Failure>, &Turn<'_>) -> bool + Send + 'static,
    ) -> Result<Keeper, Failure> {
        let keeper = Keeper::prepare(config, name, tell)?;
        keeper.begin();
        Ok(keeper)
    }

    pub fn begin(&self) {
        self.course.change(|now| now.begun = true);
    }

    /// Hands on nothing more: no step is under way when this returns. The manager goes on.
    pub fn end(&self) {
        self.course.change(|now| now.ended = true);
        drop(lock(&self.course.stepping));
    }

    /// Ends, and waits for the fetch that is under way, so long as one can take; false if something is under way all the same.
    pub fn finish(&self) -> bool {
        self.end();
        if std::mem::replace(&mut lock(&self.course.now).finished, true) {
            return true; // whoever finished it first has told
        }
        drop(lock(&self.course.fresh).take());
        let until = Instant::now() + self.limit;
        let idle = self.manager.quiesce(self.limit);
        let left = until.saturating_duration_since(Instant::now());
        idle && self.course.wait(left, |now| now.over).over
    }

    /// How long [`finish`](Keeper::finish) can take.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Course {
    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut lock(&self.now));
        self.changed.notify_all();
    }

    fn wait(&self, at_most: Duration, until: impl Fn(&Now) -> bool) -> MutexGuard<'_, Now> {
        let waited = self.changed.wait_timeout_while(lock(&self.now), at_most, |now| !until(now));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until the thread is to begin; false if it never is.
    fn has_begun(&self) -> bool {
        let waited = self.changed.wait_while(lock(&self.now), |now| !now.begun && !now.ended);
        !waited.unwrap_or_else(PoisonError::into_inner).ended
    }

    /// Makes the manager keep its token fresh, unless the keeper has been ended meanwhile.
    fn keep_fresh(&self, manager: &TokenManager) -> Result<(), Error> {
        let mut fresh = lock(&self.fresh);
        if fresh.is_none() && !lock(&self.now).ended {
            *fresh = Some(manager.keep_fresh()?);
        }
        Ok(())
    }
}

/// Tells that the thread is over, if by a panic.
struct Over(Arc<Course>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.change(|now| now.over = true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Tell<'a> = &'a mut dyn FnMut(Result<&Held, &Failure>, &Turn<'_>) -> bool;

fn follow(manager: &TokenManager, course: &Course, tell: Tell<'_>) {
    if !course.has_begun() {
        return;
    }
    let (mut generation, mut failed) = (0, String::new());
    let mut within = None;
    // When a token that was not taken is handed on again, and how long that took.
    let mut again: Option<(Instant, Duration)> = None;
    loop {
        // The first time as long as the settings let it; then what is at hand, since a fetch tells of itself.
        let got = course.keep_fresh(manager).and_then(|()| match within {
            None => manager.get(),
            Some(within) => manager.get_within(within),
        });
        match got {
            Ok(token) => {
                let new = token.generation() != generation || !failed.is_empty();
                if new || again.is_some_and(|(at, _)| at <= Instant::now()) {
                    generation = token.generation();
                    failed.clear();
                    let taken = tell(Ok(&Held::from(&token)), &Turn { manager, course, generation });
                    let pause = again.filter(|_| !new).map_or(LOOK, |(_, pause)| (pause * 2).min(MOST_PAUSE));
                    again = (!taken).then(|| (Instant::now() + pause, pause));
                }
            }
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                if kind != failed {
                    failed = kind;
                    tell(Err(&error.into()), &Turn { manager, course, generation });
                }
            }
        }
        within = Some(Duration::ZERO);
        // Nothing new: it looks again.
        let mut now = course.wait(LOOK, |now| now.news || now.ended);
        if now.ended {
            return;
        }
        now.news = false;
    }
}

#[cfg(test)]
mod tests {
    use crate::keeper::Keeper;
    use std::fs;
    use std::sync::mpsc;
    use std::time::Duration;
    use token_manager_config::Config;

    const LONG: Duration = Duration::from_secs(30);
    const SETTINGS: &str = "[stores.main]\nurl = \"memory\"\n[tokens.api.source.command]\n\
        run = [\"printf\", \"s3cret\"]\nplain_text = true\nlife = \"1h\"\n";

    fn settings() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("tkm.toml"), SETTINGS).expect("a file");
        let config = Config::read(folder.path().join("tkm.toml")).expect("settings");
        (folder, config)
    }

    #[test]
    fn a_keeper_that_was_ended_takes_no_further_step() {
        let (_folder, config) = settings();
        let ((told, tells), (go, goes), (took, taken)) = (mpsc::channel(), mpsc::channel::<()>(), mpsc::channel());
        let keeper = Keeper::start(&config, "api", move |_, turn| {
            let before = turn.step(|| ()).is_some();
            told.send(()).expect("a listener");
            goes.recv_timeout(LONG).expect("a word");
            took.send((before, turn.step(|| ()).is_some())).expect("a listener");
            true
        })
        .expect("a keeper");
        tells.recv_timeout(LONG).expect("a token");
        keeper.end();
        go.send(()).expect("a listener");
        assert_eq!(taken.recv_timeout(LONG), Ok((true, false)));
        assert!(keeper.finish());
    }

    #[test]
    fn a_keeper_that_has_not_begun_fetches_nothing_and_ends_at_once() {
        let (_folder, config) = settings();
        let keeper = Keeper::prepare(&config, "api", |_, _| true).expect("a keeper");
        assert!(keeper.finish());
        assert_eq!(keeper.manager.stats().fetches, 0);
    }
}
