//! Follows a token and hands on each new one.

use crate::failure::Failure;
use crate::held::Held;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use token_manager::{Event, FreshGuard, TokenManager};
use token_manager_config::Config;

/// How often it looks, whatever events tell.
const LOOK: Duration = Duration::from_secs(1);

/// A manager whose token is kept fresh, and the thread that hands on each new one. Dropping it ends both, in order.
pub struct Keeper {
    pub manager: TokenManager,
    told: SyncSender<()>,
    ended: Arc<AtomicBool>,
    fresh: Option<FreshGuard>,
    thread: Option<JoinHandle<()>>,
    limit: Duration,
}

impl Keeper {
    /// Begins; `tell` is called with each new token, and with each failure that is not the last one again.
    pub fn start(
        config: &Config,
        name: &str,
        mut tell: impl FnMut(Result<&Held, &Failure>) + Send + 'static,
    ) -> Result<Keeper, Failure> {
        let (told, news) = sync_channel(1);
        let ended = Arc::new(AtomicBool::new(false));
        let observer = told.clone();
        let builder = config.builder(name)?.observer(move |event: &Event| {
            if matches!(event, Event::Adopted { .. } | Event::Invalidated { .. }) {
                // Full is as good: it will look.
                let _ = observer.try_send(());
            }
        });
        let manager = config.build(name, builder)?;
        let fresh = Some(manager.keep_fresh()?);
        let follow = {
            let (manager, ended) = (manager.clone(), ended.clone());
            move || follow(&manager, &news, &ended, &mut tell)
        };
        let thread = thread::Builder::new().name(format!("tkm {name}")).spawn(follow);
        let thread = thread.map_err(|error| Failure::io("no thread can be started", &error))?;
        let limit = config.fetch_limit(name) + LOOK;
        Ok(Keeper { manager, told, ended, fresh, thread: Some(thread), limit })
    }
}

type Tell<'a> = &'a mut dyn FnMut(Result<&Held, &Failure>);

fn follow(manager: &TokenManager, news: &Receiver<()>, ended: &AtomicBool, tell: Tell<'_>) {
    let (mut generation, mut failed) = (0, String::new());
    let mut within = None;
    while !ended.load(Ordering::SeqCst) {
        // The first time as long as the settings let it; then what is at hand, since a fetch tells of itself.
        let got = match within {
            None => manager.get(),
            Some(within) => manager.get_within(within),
        };
        match got {
            Ok(token) if token.generation() != generation => {
                generation = token.generation();
                failed.clear();
                tell(Ok(&Held::from(&token)));
            }
            Ok(_) => {}
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                if kind != failed {
                    failed = kind;
                    tell(Err(&error.into()));
                }
            }
        }
        within = Some(Duration::ZERO);
        // Nothing new, or nobody to tell: either way it looks again.
        let _ = news.recv_timeout(LOOK);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.fresh.take());
        self.ended.store(true, Ordering::SeqCst);
        let _ = self.told.try_send(()); // full: it will look as well
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic in it has been told already
        }
        self.manager.quiesce(self.limit);
    }
}
