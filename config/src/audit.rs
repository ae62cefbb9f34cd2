//! A store that writes down, beside the tokens, who was granted what and what became of it. Neither a token nor a carried secret is
//! in it, only the first 16 hexadecimal digits of a token's SHA-256.

use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use std::{fmt::Write, process};
use token_manager::internals::PerProcess;
use token_manager::store::{
    Claim, Claimed, Committed, Failure, Feed, Follow, Grant, Inspection, Lease, Pause, Presence, StoreError, Stored,
    Subscription, TokenName,
};
use token_manager::{RedisStore, Store};

/// How many grants whose outcome is still to come are remembered.
const MOST_OPEN: usize = 1000;

/// Passes everything on to another store and writes the log.
pub struct Audited {
    inner: Arc<dyn Store>,
    log: RedisStore,
    keep: u32,
    host: String,
    open: PerProcess<Mutex<BTreeMap<(u64, u64), Open>>>,
}

/// A grant whose outcome is still to come.
struct Open {
    since: Instant,
    egress: String,
}

impl Audited {
    pub fn new(inner: Arc<dyn Store>, log: RedisStore, keep: u32) -> Audited {
        Audited { inner, log, keep, host: host(), open: PerProcess::default() }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<(u64, u64), Open>> {
        self.open.get(Mutex::default).lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self, name: &TokenName, entry: &str, fields: &[(&str, &str)]) {
        let pid = process::id().to_string();
        let mut all = vec![("host", &*self.host), ("pid", &*pid)];
        all.extend(fields.iter().filter(|(_, value)| !value.is_empty()));
        // A trail that cannot be written must not keep the fleet from its token.
        if let Err(error) = self.log.append_log(name, self.keep, entry, &all) {
            log::warn!(target: "token_manager", "{name}: the audit trail lacks an entry: {error}");
        }
    }

    /// Writes how a grant ended.
    fn close(&self, name: &TokenName, lease: &Lease, outcome: &str, took: Option<Duration>, fields: &[(&str, &str)]) {
        let open = self.open().remove(&(lease.attempt, lease.generation));
        let (generation, attempt) = (lease.generation.to_string(), lease.attempt.to_string());
        let took = took.or(open.as_ref().map(|open| open.since.elapsed()));
        let took = took.map(|took| took.as_millis().to_string()).unwrap_or_default();
        let egress = open.map(|open| open.egress).unwrap_or_default();
        let mut all = vec![
            ("event", "ended"),
            ("generation", &*generation),
            ("owner", &*lease.owner),
            ("attempt", &*attempt),
            ("egress", &*egress),
            ("outcome", outcome),
            ("took_ms", &*took),
        ];
        all.extend(fields);
        self.write(name, &format!("ended:{lease}:{outcome}"), &all);
    }
}

/// Returns the name of this machine.
fn host() -> String {
    #[cfg(unix)]
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let host = std::env::var("COMPUTERNAME").unwrap_or_default();
    host
}

/// Returns what tells tokens apart and gives none away.
pub fn fingerprint(secret: &str) -> String {
    digest(&SHA256, secret.as_bytes()).as_ref().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a text cannot fail
        text
    })
}

impl Store for Audited {
    fn claim(&self, name: &TokenName, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        let since = Instant::now();
        let claimed = self.inner.claim(name, claim)?;
        if let Claimed::Granted { generation, .. } = &claimed {
            let mut open = self.open();
            if open.len() >= MOST_OPEN {
                open.pop_first();
            }
            open.insert((claim.attempt, *generation), Open { since, egress: claim.egress.to_owned() });
            drop(open);
            // Before the issuer is asked: who is killed then has left a grant without an end.
            let (attempt, number) = (claim.attempt.to_string(), generation.to_string());
            let fields = [
                ("event", "granted"),
                ("generation", &*number),
                ("owner", claim.owner),
                ("attempt", &*attempt),
                ("egress", claim.egress),
            ];
            self.write(name, &format!("granted:{generation}:{}:{attempt}", claim.owner), &fields);
        }
        Ok(claimed)
    }

    fn renew(&self, name: &TokenName, lease: &Lease, length: Duration) -> Result<bool, StoreError> {
        self.inner.renew(name, lease, length)
    }

    fn commit(&self, name: &TokenName, lease: &Lease, grant: &Grant) -> Result<Committed, StoreError> {
        let committed = self.inner.commit(name, lease, grant)?;
        let outcome = match &committed {
            Committed::Written { doubted: false } => "committed",
            Committed::Written { doubted: true } => "doubted",
            Committed::Superseded(_) => "superseded",
            Committed::Invalid => "invalid",
        };
        let (mark, life) = (fingerprint(grant.value.reveal()), grant.life.as_millis().to_string());
        self.close(name, lease, outcome, grant.age, &[("fingerprint", &mark), ("life_ms", &life)]);
        Ok(committed)
    }

    fn record_failure(
        &self,
        name: &TokenName,
        lease: &Lease,
        failure: &Failure<'_>,
    ) -> Result<Option<Pause>, StoreError> {
        let pause = self.inner.record_failure(name, lease, failure)?;
        let pause_ms = pause.map(|pause| pause.retry_after.as_millis().to_string()).unwrap_or_default();
        self.close(name, lease, failure.class.as_str(), None, &[("pause_ms", &pause_ms)]);
        Ok(pause)
    }

    fn invalidate(&self, name: &TokenName, generation: u64) -> Result<(), StoreError> {
        self.inner.invalidate(name, generation)?;
        let number = generation.to_string();
        self.write(name, &format!("invalidated:{number}"), &[("event", "invalidated"), ("generation", &number)]);
        Ok(())
    }

    fn offer(&self, name: &TokenName, token: &Stored) -> Result<bool, StoreError> {
        self.inner.offer(name, token)
    }

    fn lift_pause(&self, name: &TokenName, egress: &str) -> Result<(), StoreError> {
        self.inner.lift_pause(name, egress)?;
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let entry = format!("lifted:{}:{}:{now}", self.host, process::id());
        self.write(name, &entry, &[("event", "pause lifted"), ("egress", egress)]);
        Ok(())
    }

    fn inspect(&self, name: &TokenName, egress: &str) -> Result<Inspection, StoreError> {
        self.inner.inspect(name, egress)
    }

    fn subscribe(&self, name: &TokenName) -> Result<Box<dyn Subscription>, StoreError> {
        self.inner.subscribe(name)
    }

    fn read(&self, names: &[TokenName]) -> Result<Vec<Option<Stored>>, StoreError> {
        self.inner.read(names)
    }

    fn has_feed(&self) -> bool {
        self.inner.has_feed()
    }

    fn feed(&self) -> Result<Box<dyn Feed>, StoreError> {
        self.inner.feed()
    }

    fn number(&self) -> Option<u64> {
        self.inner.number()
    }

    fn has_updater(&self, name: &TokenName) -> Result<bool, StoreError> {
        self.inner.has_updater(name)
    }

    fn show_presence(
        &self,
        name: &TokenName,
        lease: &Lease,
        length: Duration,
        follow: Option<Follow<'_>>,
    ) -> Result<Option<Box<dyn Send>>, StoreError> {
        self.inner.show_presence(name, lease, length, follow)
    }

    fn presence(&self, name: &TokenName, missed: Option<&Lease>) -> Result<Presence, StoreError> {
        self.inner.presence(name, missed)
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn timeout(&self) -> Duration {
        self.inner.timeout()
    }
}
