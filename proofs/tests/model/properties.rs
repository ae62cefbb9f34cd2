//! What must hold in every state, and what must be reached.

use crate::fleet::Fleet;
use crate::state::{Flaw, Ghost, Phase, Process, State};
use stateright::Property;

pub const SOUND: &str = "when all is quiet the stored token is valid, or doubted, or due";
pub const GROWS: &str = "no generation is granted twice, and each is higher than the last";
pub const NEVER_OLDER: &str = "a stored token is never replaced by one of a lower generation";
pub const NO_VOID: &str = "no invalidated token is served by the store";
pub const NO_RETURN: &str = "no process goes back to an older token";
pub const BUDGET: &str = "fetches stay within the budget and what lost data gave back";
pub const ONE_UPDATER: &str = "at most one process holds the updater key";
pub const ONE_FETCH: &str = "with a healthy Redis there is one flight at a time and one fetch a life, one more for each crash, two or three for each false alarm";
pub const RETURNS: &str = "every waiter returns";

pub const TAKE_OVER: &str = "an updater takes over from one that lost its lease";
pub const LATE_COMMIT: &str = "a commit comes after the lease was lost and a newer token was stored";
pub const REPAIRED: &str = "a doubted token is replaced by one beyond doubt";

pub fn of(fleet: &Fleet) -> Vec<Property<Fleet>> {
    let mut properties = vec![
        Property::always(SOUND, |fleet: &Fleet, state: &State| {
            !state.quiet() || state.ghost.untold || state.sound(fleet)
        }),
        Property::always(GROWS, |_: &Fleet, state: &State| state.ghost.flaw != Some(Flaw::GenerationRepeated)),
        Property::always(NEVER_OLDER, |_: &Fleet, state: &State| state.ghost.flaw != Some(Flaw::OlderReplacedNewer)),
        Property::always(NO_VOID, |_: &Fleet, state: &State| state.ghost.flaw != Some(Flaw::VoidServed)),
        Property::always(NO_RETURN, |_: &Fleet, state: &State| state.ghost.flaw != Some(Flaw::ProcessWentBack)),
        Property::always(BUDGET, |fleet: &Fleet, state: &State| {
            state.ghost.fetches <= state.redis.charged + state.ghost.lost_charges
                && u32::from(state.redis.charged) <= fleet.burst
        }),
        Property::always(ONE_UPDATER, |_: &Fleet, state: &State| {
            state.processes.iter().enumerate().filter(|(at, process)| leads(state, *at, process)).count() <= 1
        }),
    ];
    if !fleet.faults {
        properties.push(Property::always(ONE_FETCH, |fleet: &Fleet, state: &State| {
            let Ghost { fetches, lives, alarms, .. } = state.ghost;
            let crashes = fleet.left.crashes - state.left.crashes;
            // The token of the one who replaced it, and one that settles which is the last. Where the issuer revokes on issue, the
            // API may refuse one before the late commit.
            let for_an_alarm = if fleet.revokes { 3 } else { 2 };
            state.processes.iter().filter(|process| generation(process).is_some()).count() <= 1 + usize::from(alarms)
                && fetches <= lives + crashes + for_an_alarm * alarms
        }));
    }
    if fleet.closes {
        properties.push(Property::eventually(RETURNS, |_: &Fleet, state: &State| {
            let returned = |process: &Process| matches!(process.phase, Phase::Idle | Phase::Dead);
            state.left.requests == 0 && state.processes.iter().all(returned)
        }));
    }
    if fleet.faults {
        properties.push(Property::sometimes(TAKE_OVER, |_: &Fleet, state: &State| {
            let lost = |(at, process): (usize, &Process)| generation(process).is_some() && !leads(state, at, process);
            let leads = |(at, process): (usize, &Process)| leads(state, at, process);
            state.processes.iter().enumerate().any(lost) && state.processes.iter().enumerate().any(leads)
        }));
        properties.push(Property::sometimes(LATE_COMMIT, |_: &Fleet, state: &State| {
            let stored = state.stored().map_or(0, |(generation, _)| generation);
            state.processes.iter().any(|process| {
                matches!(process.phase, Phase::Issued { generation, .. } if generation < stored)
                    && state.redis.ledger.meta.doubted == 0
            })
        }));
        properties.push(Property::sometimes(REPAIRED, |_: &Fleet, state: &State| {
            let doubt = state.redis.ledger.meta.doubted;
            doubt > 0 && state.stored().is_some_and(|(generation, _)| generation > doubt)
        }));
    }
    properties
}

fn generation(process: &Process) -> Option<u64> {
    match process.phase {
        Phase::Granted { generation } | Phase::Issued { generation, .. } => Some(generation),
        _ => None,
    }
}

fn leads(state: &State, at: usize, process: &Process) -> bool {
    generation(process).is_some_and(|generation| state.leads(at, generation))
}
