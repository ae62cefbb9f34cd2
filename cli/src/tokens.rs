//! Tokens from an agent or from the store, and what the store alone can tell of one.

use crate::agent::client;
use crate::failure::Failure;
use crate::held::Held;
use std::time::Duration;
use token_manager::TokenManager;
use token_manager::store::{Claim, Claimed, Stored};
use token_manager_config::Config;

/// What a manager may need, beyond its source's limit, to end a fetch in order.
const GRACE: Duration = Duration::from_secs(3);

/// A manager that a short command has used. Dropping it waits for a refresh that the command has begun: a process that just ends
/// would leave the fleet a lease, and perhaps a token that nobody knows.
pub struct Direct {
    pub manager: TokenManager,
    limit: Duration,
}

impl Direct {
    pub fn new(config: &Config, name: &str) -> Result<Direct, Failure> {
        Ok(Direct { manager: config.manager(name)?, limit: config.fetch_limit(name) + GRACE })
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.manager.quiesce(self.limit);
    }
}

/// How long an agent may take: it waits as long as a manager here would.
fn agents_limit(config: &Config, name: &str) -> Duration {
    config.deadline(name) + GRACE
}

/// Returns the token that the fleet uses, from the agent if one answers. Keep the manager until the answer is out.
pub fn get(config: &Config, name: &str, direct: bool) -> Result<(Held, Option<Direct>), Failure> {
    config.token_name(name)?;
    if let Some(socket) = config.agent().socket.filter(|_| !direct)
        && let Some(answer) = client::get(&socket, name, agents_limit(config, name))
    {
        return Ok((answer?, None));
    }
    let direct = Direct::new(config, name)?;
    let token = direct.manager.get()?;
    Ok((Held::from(&token), Some(direct)))
}

/// Returns what the store holds, fetching nothing.
pub fn stored(config: &Config, name: &str) -> Result<Option<Stored>, Failure> {
    let claim = Claim {
        owner: "tkm",
        attempt: 0,
        newer_than: 0,
        lease: Duration::from_secs(1),
        budget: None,
        egress: config.egress(name),
    };
    match config.store(name)?.claim(&config.token_name(name)?, &claim)? {
        Claimed::Token(stored) => Ok(Some(stored)),
        _ => Ok(None),
    }
}

/// Ends the pauses: the fleet's and the egress's in the store, and the agent's own, if there is an agent.
pub fn lift_pause(config: &Config, name: &str) -> Result<(), Failure> {
    config.store(name)?.lift_pause(&config.token_name(name)?, config.egress(name))?;
    match config.agent().socket.and_then(|socket| client::lift_pause(&socket, name, agents_limit(config, name))) {
        Some(lifted) => lifted,
        None => Ok(()),
    }
}

/// Invalidates a generation, or the one that the store holds; returns which, if any.
pub fn invalidate(config: &Config, name: &str, generation: Option<u64>, direct: bool) -> Result<Option<u64>, Failure> {
    let (store, place) = (config.store(name)?, config.token_name(name)?);
    let generation = match generation {
        Some(generation) => Some(generation),
        None => store.inspect(&place, config.egress(name))?.token.map(|(generation, _)| generation),
    };
    let Some(generation) = generation else { return Ok(None) };
    // The agent hears of it through the store; told directly it never serves it once more.
    if let Some(socket) = config.agent().socket.filter(|_| !direct)
        && let Some(answer) = client::invalidate(&socket, name, generation, agents_limit(config, name))
    {
        answer?;
        return Ok(Some(generation));
    }
    store.invalidate(&place, generation)?;
    Ok(Some(generation))
}
