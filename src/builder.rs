//! The settings of a manager and the one place that refuses them.

use crate::error::Error;
use crate::event::{Event, Observer};
use crate::events::Events;
use crate::fork::PerProcess;
use crate::journal::Journal;
use crate::manager::TokenManager;
use crate::policy::{Budget, Execution, Policy, Portion};
use crate::settings::{Common, Keyed, Settings};
use crate::source::TokenSource;
use crate::store::file::FileStore;
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::when_away::WhenAway;
use crate::store::{Store, TokenName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`TokenManager`], changed one by one and checked by [`build`](Builder::build).
#[must_use]
pub struct Builder {
    name: Arc<str>,
    namespace: Arc<str>,
    group: Option<Arc<str>>,
    grant: Option<Arc<str>>,
    egress: String,
    policy: Policy,
    store: Option<Backing>,
    when_away: Option<(Box<dyn Store>, Budget)>,
    source: Option<Arc<dyn TokenSource>>,
    observer: Option<Observer>,
    journal: Option<PathBuf>,
    /// What it goes by where nothing else is set.
    base: Option<Arc<Common>>,
    keyed: Option<Arc<Keyed>>,
}

enum Backing {
    Redis(Box<RedisOptions>),
    File(PathBuf),
    Given(Arc<dyn Store>),
}

impl TokenManager {
    /// Starts the settings of a manager for the token of this name, the same in every process of the fleet.
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }
}

impl Builder {
    fn new(name: &str) -> Builder {
        Builder {
            name: name.into(),
            namespace: "tm".into(),
            group: None,
            grant: None,
            egress: "default".to_owned(),
            policy: Policy::default(),
            store: None,
            when_away: None,
            source: None,
            observer: None,
            journal: None,
            base: None,
            keyed: None,
        }
    }

    /// What stands before each key.
    pub(crate) fn prefix(&self) -> String {
        format!("{}:", self.name)
    }

    /// Makes the token one of many.
    pub(crate) fn among(self, keyed: Arc<Keyed>) -> Builder {
        Builder { keyed: Some(keyed), ..self }
    }

    /// Starts the settings of one more token, of this name: those of this builder, of which `base` was made, until others are set.
    pub(crate) fn for_name(&self, name: &str, base: &Arc<Common>) -> Builder {
        Builder {
            namespace: self.namespace.clone(),
            group: self.group.clone(),
            grant: self.grant.clone(),
            egress: base.egress.clone(),
            policy: base.policy.clone(),
            base: Some(base.clone()),
            ..Builder::new(name)
        }
    }

    /// Keeps the token in the Redis of this URL, `redis://[user:password@]host[:port][/database]` or another
    /// [form](crate::RedisStore::open), with the numbers that [`RedisOptions`] names; without a thread of the store if flights
    /// are on the caller's. One store is required; there is no default.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the URL cannot be read.
    pub fn redis(mut self, url: &str) -> Result<Builder, Error> {
        let options = RedisStore::options(url);
        options.check().map_err(|error| Error::config(error.to_string()))?;
        self.store = Some(Backing::Redis(Box::new(options)));
        Ok(self)
    }

    /// Keeps the token in files of this folder, for all processes of this host and user, without a server; the folder is made if it
    /// is not there ([`FileStore`]). Unix only. One store is required; there is no default.
    pub fn file(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.store = Some(Backing::File(folder.into()));
        self
    }

    /// Keeps the token in this store; clones of one store may serve many managers. One store is required; there is no
    /// default.
    pub fn store(mut self, store: impl Store) -> Builder {
        self.store = Some(Backing::Given(Arc::new(store)));
        self
    }

    /// Has the processes of this host meet in this store, a [`FileStore`] or a [`MemoryStore`](crate::MemoryStore), while the fleet's cannot
    /// be reached: each host then fetches by itself, within this budget of its own, and the issuer sees up to as many times the budget
    /// as there are hosts. When the fleet's store is back it is told what was fetched, and one fetch for each host at most settles
    /// which token is the last. Nobody's wait gets longer. Not for sources that carry a secret, which two hosts must not present: their
    /// tokens are not fetched meanwhile. Each token that is waited for or kept fresh has a subscription of its own then. Defaults to none: no
    /// fetch without the fleet's store.
    pub fn when_away(mut self, store: impl Store, budget: Budget) -> Builder {
        self.when_away = Some((Box::new(store), budget));
        self
    }

    /// Fetches tokens with this source, usually a closure `|attempt: &Attempt| …`. Required; there is no default.
    pub fn source(mut self, source: impl TokenSource) -> Builder {
        self.source = Some(Arc::new(source));
        self
    }

    /// Puts all keys below this word, so that several fleets can share one Redis. Defaults to `tm`.
    pub fn namespace(mut self, namespace: &str) -> Builder {
        self.namespace = namespace.into();
        self
    }

    /// Puts tokens of one issuer together: those of one group and egress share a budget, and a slot of a Redis Cluster.
    /// Defaults to the name of the grant, which is the token's own unless another is set.
    pub fn group(mut self, group: &str) -> Builder {
        self.group = Some(group.into());
        self
    }

    /// Names the grant of which this token is one: tokens of one grant, such as those for several audiences or scopes of one login,
    /// share the carried secret (a refresh token that is replaced each time), the updater, so that they never present it in
    /// parallel, and the pause after a failure. They must be of one group. Defaults to the token's name: a grant of its own.
    pub fn grant(mut self, grant: &str) -> Builder {
        self.grant = Some(grant.into());
        self
    }

    /// Names the identity, usually the source IP address, for which the issuer counts requests; each has a budget of
    /// its own. Defaults to `default`, one for the whole fleet.
    pub fn egress(mut self, egress: &str) -> Builder {
        self.egress = egress.to_owned();
        self
    }

    /// Limits how often the fleet asks the issuer. Must be the same in every process. Defaults to 60 a minute, 10 at
    /// once.
    pub fn budget(mut self, budget: Budget) -> Builder {
        self.policy.budget = budget;
        self
    }

    /// Limits one call of the source; one that overruns it is abandoned. Defaults to 10 seconds.
    pub fn fetch_limit(mut self, limit: Duration) -> Builder {
        self.policy.fetch_limit = limit;
        self
    }

    /// Sets how long a silent updater keeps its right to fetch: a killed one is replaced after that. Renewed each third
    /// of it while the source runs. Defaults to 3 seconds; with [`Execution::Inline`], which cannot renew it, to
    /// the fetch limit + 2 seconds.
    pub fn lease(mut self, lease: Duration) -> Builder {
        self.policy.lease = Some(lease);
        self
    }

    /// Limits the wait of [`get`](TokenManager::get). Defaults to 15 seconds.
    pub fn deadline(mut self, deadline: Duration) -> Builder {
        self.policy.deadline = deadline;
        self
    }

    /// Sets how long before the end of a token's life it is refreshed at the latest: a [`Duration`], or a share of the
    /// life ([`Portion::Share`]). Each process refreshes at a point of its own between 1.5 times that and that before the
    /// end. Should be longer than the issuer takes, and the same in every process. A quarter of the life at most: a larger
    /// share is refused, a longer span cut. Defaults to a share of 0.2, so a token is refreshed after 70 to 80 % of its life.
    pub fn refresh_before(mut self, portion: impl Into<Portion>) -> Builder {
        self.policy.window.refresh_before = portion.into();
        self
    }

    /// Sets the part at the end of a token's life in which it is not used any more, for requests on their way and clocks
    /// that differ: a [`Duration`], or a share of the life. Should be the same in every process. Half of
    /// [`refresh_before`](Builder::refresh_before) at most: more is refused where both are shares or both are spans, and cut
    /// where the token's life has to tell. Defaults to 5 % of the life, 5 seconds at most.
    pub fn margin(mut self, portion: impl Into<Portion>) -> Builder {
        self.policy.window.margin = Some(portion.into());
        self
    }

    /// Serves the last token past its end, no longer than this, wherever [`get`](TokenManager::get) would have to fail because store or
    /// issuer are out of reach or take too long, for APIs that take such tokens for a while. It is marked ([`Token::is_stale`](crate::Token::is_stale)),
    /// and each call asks for a newer one first. Never an invalidated token, nor one for credentials that the issuer refuses. Defaults
    /// to none: no token is served past its end.
    pub fn serve_stale(mut self, limit: Duration) -> Builder {
        self.policy.serve_stale = Some(limit);
        self
    }

    /// Says on which thread flights run. Defaults to [`Execution::Background`].
    pub fn execution(mut self, execution: Execution) -> Builder {
        self.policy.execution = execution;
        self
    }

    /// Tells an observer what happens to the token, on the thread where it happens and with no lock held. It should not
    /// block; its panic is caught. Defaults to none.
    pub fn observer(mut self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Builder {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Writes what a source brought into this folder, and to the disk, before it is committed, so that it survives `kill -9` and a
    /// power cut: the next flight of any process of this host and user that has the same journal, store and name commits what a dead one left.
    /// For refresh tokens that are replaced each time. Secrets lie there in clear, readable by this user alone, until the
    /// store has them. The folder is made if it is not there. Unix only. Defaults to none.
    pub fn journal(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.journal = Some(folder.into());
        self
    }

    /// Makes the manager; never talks to the store or the issuer.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if a setting is missing or absurd, or two contradict each other;
    /// the message names them and the rule.
    pub fn build(mut self) -> Result<TokenManager, Error> {
        let (name, common) = (self.token_name()?, self.common()?);
        Ok(TokenManager::new(Settings { name, common }))
    }

    /// Returns the token's name, whose words are checked.
    pub(crate) fn token_name(&self) -> Result<TokenName, Error> {
        let (name, namespace) = (self.name.clone(), self.namespace.clone());
        let grant = self.grant.clone().unwrap_or_else(|| name.clone());
        let group = self.group.clone().unwrap_or_else(|| grant.clone());
        for (setting, word) in [("name", &name), ("grant", &grant)] {
            check_word(setting, word)?;
            check_taken(setting, word)?;
        }
        for (setting, word) in [("namespace", &namespace), ("group", &group)] {
            check_word(setting, word)?;
        }
        Ok(TokenName { namespace, group, name, grant })
    }

    /// Returns everything but the name, checked; it is taken out of the builder.
    pub(crate) fn common(&mut self) -> Result<Arc<Common>, Error> {
        let (store, source, observer, journal) =
            (self.store.take(), self.source.take(), self.observer.take(), self.journal.take());
        let base = self.base.as_deref();
        if let Some(shared) = &self.base
            && store.is_none()
            && source.is_none()
            && observer.is_none()
            && journal.is_none()
            && self.when_away.is_none()
            && (&shared.egress, &shared.policy) == (&self.egress, &self.policy)
        {
            return Ok(shared.clone());
        }
        check_word("egress", &self.egress)?;
        let store: Arc<dyn Store> = match (store, base) {
            (Some(Backing::Given(store)), _) => store,
            (Some(Backing::Redis(options)), _) => {
                let inline = self.policy.execution == Execution::Inline;
                let options = if inline { options.without_thread() } else { *options };
                Arc::new(options.open().map_err(|error| Error::config(error.to_string()))?)
            }
            (Some(Backing::File(folder)), _) => {
                Arc::new(FileStore::open(folder).map_err(|error| Error::config(error.to_string()))?)
            }
            (None, Some(base)) => base.store.clone(),
            (None, None) => return Err(Error::config("no store is set; call redis(url), file(folder) or store(…)")),
        };
        let store: Arc<dyn Store> = match self.when_away.take() {
            Some((host, budget)) => {
                budget.check("when_away.budget").map_err(Error::config)?;
                Arc::new(WhenAway::new(Box::new(store), host, budget))
            }
            None => store,
        };
        let source = source.or_else(|| base.map(|base| base.source.clone()));
        let source = source.ok_or_else(|| Error::config("no source is set; call source(…)"))?;
        self.policy.check(store.timeout()).map_err(Error::config)?;
        let unusable =
            |folder: &PathBuf, error| Error::config(format!("journal is {folder:?}; it cannot be used: {error}"));
        let open = |folder: PathBuf| Journal::open(&folder).map_err(|error| unusable(&folder, error)).map(Arc::new);
        let journal = journal.map(open).transpose()?.or_else(|| base.and_then(|base| base.journal.clone()));
        let observer = observer.or_else(|| base.and_then(|base| base.observer.clone()));
        let (egress, policy) = (self.egress.clone(), self.policy.clone());
        let events = PerProcess::new(Events::of(&store));
        let keyed = base.and_then(|base| base.keyed.clone()).or_else(|| self.keyed.take());
        let counters = PerProcess::default();
        Ok(Arc::new(Common { egress, policy, store, source, observer, journal, events, counters, keyed }))
    }
}

/// Keys of a token must not meet those of an egress.
fn check_taken(setting: &str, word: &str) -> Result<(), Error> {
    match word.split(':').next() {
        Some(first @ ("budget" | "pause")) => {
            let rule = format!("the word {first:?} is taken by the keys of an egress, choose another");
            Err(Error::config(format!("{setting} is {word:?}; {rule}")))
        }
        _ => Ok(()),
    }
}

/// Words become parts of keys: braces would move the key to another slot of a Redis Cluster.
fn check_word(setting: &str, word: &str) -> Result<(), Error> {
    let forbidden = |c: char| matches!(c, '{' | '}') || c.is_whitespace() || c.is_control();
    if word.is_empty() || word.len() > 200 || word.contains(forbidden) {
        let rule = "must be 1 to 200 bytes without braces, spaces and control characters";
        return Err(Error::config(format!("{setting} is {word:?}; it {rule}")));
    }
    Ok(())
}
