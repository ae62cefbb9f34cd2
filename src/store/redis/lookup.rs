//! Looks up the addresses of a host name, on a thread of its own: nobody can put a limit on the system's lookup, so whoever
//! needs the answer waits for the thread until a deadline.

use super::failure::in_io;
use crate::clock;
use crate::fork::PerProcess;
use crate::locks::{Condvar, Mutex};
use crate::store::{StoreError, StoreErrorKind};
use crate::threads::{self, Running};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a lookup may take before another one of the same name is begun beside it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many lookups of one store may run, or hang, at a time.
const MAX_LOOKUPS: usize = 4;

/// The lookups of a store.
#[derive(Default)]
pub struct Lookups {
    /// Whether names are looked up on the caller's own thread, without a limit.
    threadless: bool,
    shared: PerProcess<Arc<Shared>>,
}

#[derive(Default)]
struct Shared {
    names: Mutex<HashMap<String, Name>>,
    ended: Condvar,
    threads: Arc<Running>,
}

/// What is known of one name.
#[derive(Default)]
struct Name {
    running: usize,
    /// Until when the last lookup that was begun is waited for alone.
    patience: Option<Instant>,
    /// How many have ended, and what the last of them brought.
    ended: u64,
    answer: Option<Result<Vec<SocketAddr>, String>>,
}

impl Lookups {
    pub fn new(threadless: bool) -> Lookups {
        Lookups { threadless, shared: PerProcess::default() }
    }

    /// Returns the addresses of a host. One that is written as an address needs no lookup.
    pub fn find(&self, host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
            Err(_) if self.threadless => ask_system(host),
            Err(_) => self.shared.get(Arc::default).wait_for(host, deadline)?,
        };
        let mut addresses = addresses.map_err(|cause| {
            let message = "the host name of Redis cannot be looked up; check the URL and the system's resolver";
            in_io(StoreError::new(StoreErrorKind::Unreachable, message).because(cause))
        })?;
        addresses.iter_mut().for_each(|address| address.set_port(port));
        Ok(addresses)
    }
}

impl Shared {
    /// Waits for the next end of a lookup of this name; begins one unless it can be expected from those under way.
    fn wait_for(self: &Arc<Shared>, host: &str, deadline: Instant) -> io::Result<Result<Vec<SocketAddr>, String>> {
        let mut names = self.names.lock();
        let seen = names.get(host).map_or(0, |name| name.ended);
        loop {
            let in_all: usize = names.values().map(|name| name.running).sum();
            let name = names.entry(host.to_owned()).or_default();
            if let Some(answer) = name.answer.as_ref().filter(|_| name.ended > seen) {
                return Ok(answer.clone());
            }
            if clock::left(deadline).is_zero() {
                let message = "the lookup of the host name of Redis did not end in time";
                return Err(in_io(StoreError::new(StoreErrorKind::Unreachable, message)));
            }
            let is_young = name.patience.is_some_and(|patience| !clock::left(patience).is_zero());
            if (name.running == 0 || !is_young) && in_all < MAX_LOOKUPS {
                self.begin(host)?;
                name.running += 1;
                name.patience = Some(clock::deadline(PATIENCE));
            }
            let next = name.patience.filter(|patience| in_all < MAX_LOOKUPS && !clock::left(*patience).is_zero());
            self.ended.wait_until(&mut names, next.unwrap_or(deadline).min(deadline));
        }
    }

    fn begin(self: &Arc<Shared>, host: &str) -> io::Result<()> {
        let (shared, host) = (self.clone(), host.to_owned());
        threads::spawn("tkm-lookup", &self.threads, move || {
            let answer = ask_system(&host);
            let mut names = shared.names.lock();
            let name = names.entry(host).or_default();
            name.running -= 1;
            name.ended += 1;
            name.answer = Some(answer);
            shared.ended.notify_all();
        })
    }
}

fn ask_system(host: &str) -> Result<Vec<SocketAddr>, String> {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(error.to_string()),
    }
}
