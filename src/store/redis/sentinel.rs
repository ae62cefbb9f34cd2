//! Asks Redis Sentinels which server is the primary, when it is needed, each second while it is, and at once when there is any
//! sign that it is another one. It has no thread and no subscription: who asks is the caller whose exchange comes next.

use super::address::Address;
use super::dial::Dialer;
use super::failure::{code, in_io};
use super::login::Login;
use super::stream::Stream;
use super::target::{Target, list};
use crate::clock;
use crate::fork::PerProcess;
use crate::locks::{Condvar, Mutex};
use crate::store::{StoreError, StoreErrorKind};
use redis::{RedisError, RedisResult, Value, cmd};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};
use std::{fmt, mem};

/// How long the answer of the sentinels counts. An old primary accepts writes for ten seconds after a planned failover.
pub const CONFIRMED: Duration = Duration::from_secs(1);
/// How much longer the others go on with it while one asks.
const TRUSTED: Duration = Duration::from_secs(1);
/// How soon the sentinels are asked again when the primary does not answer.
const SUSPECTED: Duration = Duration::from_millis(25);
/// How long a sentinel that did not answer is left alone while others do, and what it said last outweighs an older
/// configuration: the others learn of a new one seconds later.
const REST: Duration = Duration::from_secs(5);

/// The sentinels of one primary.
pub struct Sentinels {
    name: String,
    addresses: Vec<Address>,
    dialer: Dialer,
    login: Login,
    /// What one sentinel may take to answer.
    limit: Duration,
    state: PerProcess<State>,
}

#[derive(Default)]
struct State {
    told: Mutex<Told>,
    changed: Condvar,
}

/// What the sentinels have told this process.
#[derive(Default)]
struct Told {
    primary: Option<Address>,
    /// The number of the configuration that made it the primary, and until when an older one does not count.
    epoch: u64,
    epoch_counts_until: Option<Instant>,
    term: u64,
    /// Before this nobody asks.
    confirmed_until: Option<Instant>,
    /// Before this nobody waits for one who asks.
    trusted_until: Option<Instant>,
    /// When the sentinels may be asked again about a primary that does not answer.
    again_at: Option<Instant>,
    asking: bool,
    rounds: u64,
    lines: Vec<Line>,
}

/// The connection to one sentinel.
#[derive(Default)]
struct Line {
    stream: Option<Stream>,
    rests_until: Option<Instant>,
}

impl Sentinels {
    pub fn new(name: String, addresses: Vec<Address>, dialer: Dialer, login: Login, limit: Duration) -> Sentinels {
        Sentinels { name, addresses, dialer, login, limit, state: PerProcess::default() }
    }

    pub fn speak_tls(&self) -> bool {
        self.dialer.tls.is_some()
    }

    fn state(&self) -> &State {
        self.state.get(State::default)
    }

    /// Returns the number of the present term.
    pub fn term(&self) -> u64 {
        self.state().told.lock().term
    }

    /// Has the sentinels be asked before the next exchange: the primary of this term does not answer as one.
    pub fn suspect(&self, term: u64) {
        let mut told = self.state().told.lock();
        if told.term == term {
            told.confirmed_until = told.again_at;
            told.trusted_until = None;
        }
    }

    /// Returns the primary. One caller asks the sentinels when the last answer is too old; the others go on with that for a
    /// while, or wait where there is none.
    pub fn target(&self, deadline: Instant) -> RedisResult<Target> {
        let state = self.state();
        let mut told = state.told.lock();
        let rounds = told.rounds;
        loop {
            match told.target() {
                Some(target) if !passed(told.confirmed_until) => return Ok(target),
                Some(target) if told.asking && !passed(told.trusted_until) => return Ok(target),
                None if told.rounds != rounds => return Err(unreachable("no sentinel told where the primary is")),
                _ if !told.asking => break,
                _ => {}
            }
            if state.changed.wait_until(&mut told, deadline).timed_out() {
                return Err(io::Error::from(ErrorKind::TimedOut).into());
            }
        }
        told.asking = true;
        let mut lines = mem::take(&mut told.lines);
        lines.resize_with(self.addresses.len(), Line::default);
        // A primary that answers is not kept waiting for sentinels that do not.
        let limit = if told.trusted_until.is_some() { deadline.min(clock::deadline(self.limit)) } else { deadline };
        drop(told);
        let round = Round(state);
        let answer = self.ask(&mut lines, limit);
        let mut told = state.told.lock();
        told.lines = lines;
        let outcome = self.take_in(&mut told, answer);
        drop(told);
        drop(round);
        outcome
    }

    fn take_in(&self, told: &mut Told, answer: RedisResult<(u64, Address)>) -> RedisResult<Target> {
        told.confirmed_until = Some(clock::deadline(CONFIRMED));
        told.trusted_until = Some(clock::deadline(CONFIRMED + TRUSTED));
        told.again_at = Some(clock::deadline(SUSPECTED));
        match answer {
            Ok((epoch, _)) if epoch < told.epoch && !passed(told.epoch_counts_until) => {}
            Ok((epoch, primary)) => {
                (told.epoch, told.epoch_counts_until) = (epoch, Some(clock::deadline(REST)));
                if told.primary.as_ref() != Some(&primary) {
                    log::info!(target: "token_manager::redis", "the primary of {} is {primary}", self.name);
                    told.primary = Some(primary);
                    told.term += 1;
                }
            }
            // A primary that works goes on without its sentinels.
            Err(error) => match told.target() {
                Some(_) => {
                    log::debug!(target: "token_manager::redis", "no sentinel of {} answered: {error}", self.name)
                }
                None => return Err(error),
            },
        }
        told.target().ok_or_else(|| unreachable("no sentinel told where the primary is"))
    }

    /// Asks all sentinels and returns the newest configuration, and of those that are equally new the one that most of them
    /// name.
    fn ask(&self, lines: &mut [Line], deadline: Instant) -> RedisResult<(u64, Address)> {
        let mut named: Vec<(u64, Address)> = Vec::new();
        let mut last = None;
        let (rested, resting): (Vec<_>, Vec<_>) = (0..lines.len()).partition(|at| passed(lines[*at].rests_until));
        for group in [rested, resting] {
            for (at, rest) in group.iter().copied().zip((1..=group.len() as u32).rev()) {
                // Each has its share of the time: one that never answers leaves some to the next.
                let share = self.limit.min(clock::left(deadline) / rest);
                let line = &mut lines[at];
                line.rests_until = None;
                match self.ask_one(&self.addresses[at], &mut line.stream, clock::deadline(share)) {
                    Ok(answer) => named.push(answer),
                    Err(error) => {
                        line.rests_until = Some(clock::deadline(REST));
                        last = Some(error);
                    }
                }
            }
            if !named.is_empty() {
                break;
            }
        }
        let votes = |of: &(u64, Address)| named.iter().filter(|other| *other == of).count();
        let newest = named.iter().max_by_key(|answer| (answer.0, votes(answer)));
        let nobody = || last.unwrap_or_else(|| unreachable("no sentinel was asked"));
        newest.cloned().ok_or_else(nobody)
    }

    /// Asks one sentinel, on the connection to it if that still stands.
    fn ask_one(&self, address: &Address, kept: &mut Option<Stream>, deadline: Instant) -> RedisResult<(u64, Address)> {
        self.ask_over(address, kept, deadline)
            .map_err(of_sentinel)?
            .ok_or_else(|| unreachable("the sentinels know no primary of this name; check the name in the URL"))
    }

    fn ask_over(
        &self,
        address: &Address,
        kept: &mut Option<Stream>,
        deadline: Instant,
    ) -> RedisResult<Option<(u64, Address)>> {
        match kept.as_mut().map(|stream| self.query(stream, deadline)) {
            Some(Ok(answer)) => Ok(answer),
            _ => {
                *kept = None;
                let mut stream = self.dialer.dial(address, &self.login, deadline)?;
                let answer = self.query(&mut stream, deadline)?;
                *kept = Some(stream);
                Ok(answer)
            }
        }
    }

    /// Returns the primary's address with the number of the configuration that made it one; `None` if the name is unknown.
    fn query(&self, stream: &mut Stream, deadline: Instant) -> RedisResult<Option<(u64, Address)>> {
        let ask = |what: &str| cmd("SENTINEL").arg(what).arg(&self.name).get_packed_command();
        stream.send(&[ask("GET-MASTER-ADDR-BY-NAME"), ask("MASTER")].concat(), deadline)?;
        let address = stream.answer(deadline);
        let master = stream.answer(deadline);
        // A user who may not see the configuration still sees the address.
        if master.as_ref().is_err_and(|error| error.code().is_none()) {
            return Err(master.unwrap_err());
        }
        let words = texts(address?);
        let [host, port] = &words[..] else { return Ok(None) };
        let port = port.parse().map_err(|_| unreachable("a sentinel named an address without a port"))?;
        let master = texts(master.unwrap_or(Value::Nil));
        let epoch = master.chunks_exact(2).find(|pair| pair[0] == "config-epoch").and_then(|pair| pair[1].parse().ok());
        Ok(Some((epoch.unwrap_or(0), Address::Tcp { host: host.clone(), port })))
    }
}

impl Told {
    fn target(&self) -> Option<Target> {
        self.primary.clone().map(|address| Target { address, term: self.term })
    }
}

/// One who asks; its end wakes those who wait for that.
struct Round<'a>(&'a State);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut told = self.0.told.lock();
        told.asking = false;
        told.rounds += 1;
        drop(told);
        self.0.changed.notify_all();
    }
}

/// Makes sure that a server is a primary.
pub fn must_be_primary(stream: &mut Stream, deadline: Instant) -> RedisResult<()> {
    stream.send(&cmd("ROLE").get_packed_command(), deadline)?;
    match stream.answer(deadline) {
        Ok(Value::Array(role)) if texts(Value::Array(role.clone())).first().is_some_and(|role| role != "master") => {
            Err(unreachable("the server that the sentinels name is no primary yet"))
        }
        // Who may not ask for the role learns from the first write.
        Err(error) if error.code().is_none() => Err(error),
        _ => Ok(()),
    }
}

fn texts(value: Value) -> Vec<String> {
    let Value::Array(items) = value else { return Vec::new() };
    let text = |item| match item {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        _ => String::new(),
    };
    items.into_iter().map(text).collect()
}

fn passed(at: Option<Instant>) -> bool {
    at.is_none_or(|at| clock::left(at).is_zero())
}

fn unreachable(text: &str) -> RedisError {
    in_io(StoreError::new(StoreErrorKind::Unreachable, text)).into()
}

/// Says what a sentinel's refusal means, which is not the primary's.
fn of_sentinel(error: RedisError) -> RedisError {
    let (kind, text) = match code(&error) {
        None if error.kind() != redis::ErrorKind::AuthenticationFailed => return error,
        None | Some("NOAUTH" | "WRONGPASS") => {
            (StoreErrorKind::Denied, "the sentinels refused the credentials; check sentinel_user and sentinel_password")
        }
        Some("NOPERM") => (StoreErrorKind::Denied, "the sentinels' user lacks the command SENTINEL"),
        Some(_) => (StoreErrorKind::Other, "a server that is named as a sentinel is none; check its host and port"),
    };
    in_io(StoreError::new(kind, text)).into()
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of ", self.name)?;
        list(f, &self.addresses)
    }
}
