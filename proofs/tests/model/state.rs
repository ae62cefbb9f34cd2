//! The state that the checker explores: Redis, its replica, the issuer, the processes, and what is on its way to Redis.

use crate::fleet::Fleet;
use crate::verbs::owner;
use std::time::Duration;
use token_manager::FailureClass;
use token_manager::store::Lease;
use token_manager::store::rules::{EgressState, Span, TokenState};

/// Far enough for nothing to end by itself: in the model, time ends things in steps of their own.
pub const FAR: u64 = 1 << 40;

const LONG: Span = Span { ends_at: FAR, length: Duration::from_micros(FAR) };

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Redis {
    pub ledger: TokenState,
    pub egress: EgressState,
    /// How many grants this Redis remembers to have charged.
    pub charged: u8,
}

/// A token as a process holds it; generation 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    pub generation: u64,
    /// Which of the issuer's tokens it is.
    pub issue: u8,
    pub doubted: bool,
}

/// Where a process is. `again` marks the one retry of a verb whose reply was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Idle,
    Asking {
        newer_than: u64,
        again: bool,
    },
    /// Told that the lease of generation `told` stands.
    Waiting {
        newer_than: u64,
        told: u64,
    },
    Granted {
        generation: u64,
    },
    /// The issuer has issued, and its answer is on its way or here.
    Issued {
        generation: u64,
        issue: u8,
        again: bool,
    },
    Failing {
        generation: u64,
        unknown: bool,
        again: bool,
    },
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pub phase: Phase,
    pub held: Held,
    /// The highest generation it has had, and the highest it has rejected.
    pub seen: u64,
    pub invalidated: u64,
    /// Whether it keeps fresh and knows of every change: the store held its very token when it last changed, if the store
    /// holds one at all.
    pub follows: bool,
    /// A source that overran its limit: its generation, and what the issuer has issued to it, 0 for nothing yet.
    pub abandoned: Option<(u64, u8)>,
}

/// A request that Redis executes after its sender has stopped waiting for the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Late {
    Claim { owner: usize, newer_than: u64 },
    Commit { owner: usize, generation: u64, issue: u8 },
    Fail { owner: usize, generation: u64, unknown: bool },
    Invalidate { generation: u64 },
}

/// What must never be seen in a reply or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    GenerationRepeated,
    OlderReplacedNewer,
    VoidServed,
    ProcessWentBack,
}

/// What may still happen to the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    pub requests: u8,
    pub crashes: u8,
    pub late: u8,
    pub losses: u8,
    pub failovers: u8,
    pub abandons: u8,
    /// How often a living updater may be missed, because its presence is not seen.
    pub alarms: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub redis: Redis,
    /// Where the replica stopped; a failover goes back to it.
    pub replica: Option<Redis>,
    pub now: u64,
    pub processes: Vec<Process>,
    pub late: Option<Late>,
    pub left: Left,
    /// How many tokens the issuer has issued; with an issuer that revokes, the last is the valid one.
    pub issued: u8,
    /// Generations up to this one are due by time.
    pub due: u64,
    pub ghost: Ghost,
}

/// What the properties remember of the past and no part of the fleet knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    pub granted: u64,
    pub invalidated: u64,
    pub fetches: u8,
    /// How many lives have begun: one, and one for each time that a token became due.
    pub lives: u8,
    /// How often a living updater was missed, and lost its lease by that.
    pub alarms: u8,
    /// Charges that went with lost data.
    pub lost_charges: u8,
    /// The issuer may have issued to an updater without a lease, and that updater told nobody; or a failover lost writes.
    pub untold: bool,
    pub flaw: Option<Flaw>,
}

impl State {
    pub fn new(fleet: &Fleet) -> State {
        State {
            redis: Redis::default(),
            replica: None,
            now: 0,
            processes: vec![Process::default(); fleet.processes],
            late: None,
            left: fleet.left,
            issued: 0,
            due: 0,
            ghost: Ghost { lives: 1, ..Ghost::default() },
        }
    }

    pub fn stored(&self) -> Option<(u64, u8)> {
        let token = self.redis.ledger.token.as_ref()?;
        Some((token.generation, issue(token.value.reveal())))
    }

    /// Whether the process's lease of this generation stands.
    pub fn leads(&self, process: usize, generation: u64) -> bool {
        let lease = self.redis.ledger.updater.as_ref().map(|updater| &updater.lease);
        lease.is_some_and(|lease| lease.generation == generation && *lease.owner == *owner(process))
    }

    /// Whether a flight is under way that was granted this lease.
    pub fn is_at_work(&self, lease: &Lease) -> bool {
        self.processes.iter().enumerate().any(|(at, process)| {
            let under_way = match process.phase {
                Phase::Granted { generation }
                | Phase::Issued { generation, .. }
                | Phase::Failing { generation, .. } => generation == lease.generation,
                // Its claim may have been granted, and the reply be lost.
                Phase::Asking { again, .. } => again,
                _ => false,
            };
            under_way && *lease.owner == *owner(at)
        })
    }

    pub fn is_valid(&self, fleet: &Fleet, issue: u8) -> bool {
        !fleet.revokes || issue == self.issued
    }

    /// Whether everybody can see that the stored token, if there is one, is to be replaced or need not be.
    pub fn sound(&self, fleet: &Fleet) -> bool {
        self.stored().is_none_or(|(generation, issue)| {
            let meta = &self.redis.ledger.meta;
            self.is_valid(fleet, issue) || generation <= meta.doubted.max(meta.invalidated).max(self.due)
        })
    }

    /// Whether no grant is under way and no request on its way.
    pub fn quiet(&self) -> bool {
        let under_way = |process: &Process| {
            let granted = matches!(process.phase, Phase::Granted { .. } | Phase::Issued { .. } | Phase::Failing { .. });
            granted || process.abandoned.is_some()
        };
        self.late.is_none() && !self.processes.iter().any(under_way)
    }

    /// Takes one state for all that differ in nothing a rule can tell: the ends of what ends by a step, the attempts of
    /// flights that have ended, the names of the processes.
    pub fn settle(&mut self) {
        let (stored, meta) = (self.stored(), &self.redis.ledger.meta);
        for process in &mut self.processes {
            let held = process.held.generation;
            let news = stored.is_some_and(|(generation, _)| generation != held);
            process.follows &= !news && held > meta.doubted.max(meta.invalidated);
        }
        for ledger in
            [Some(&mut self.redis), self.replica.as_mut()].into_iter().flatten().map(|redis| &mut redis.ledger)
        {
            if let Some(token) = &mut ledger.token {
                token.expires_at = FAR;
            }
            if let Some(updater) = &mut ledger.updater {
                updater.span = LONG;
            }
            if let Some(cooling) = &mut ledger.meta.pause {
                (cooling.span, cooling.class) = (LONG, FailureClass::Unavailable);
            }
            ledger.meta.fails = 0;
        }
        let mut order: Vec<usize> = (0..self.processes.len()).collect();
        order.sort_by_key(|at| (self.processes[*at], self.marks(*at)));
        if order.is_sorted() {
            return;
        }
        self.processes = order.iter().map(|at| self.processes[*at]).collect();
        let renamed = |old: usize| order.iter().position(|at| *at == old).expect("every process has a place");
        for ledger in
            [Some(&mut self.redis), self.replica.as_mut()].into_iter().flatten().map(|redis| &mut redis.ledger)
        {
            if let Some(updater) = &mut ledger.updater {
                updater.lease.owner = owner(renamed(number(&updater.lease.owner)));
            }
        }
        if let Some(Late::Claim { owner, .. } | Late::Commit { owner, .. } | Late::Fail { owner, .. }) = &mut self.late
        {
            *owner = renamed(*owner);
        }
    }

    /// Tells apart processes that are alike in themselves.
    fn marks(&self, process: usize) -> (bool, bool, bool) {
        let updates = |redis: &Redis| {
            redis.ledger.updater.as_ref().is_some_and(|updater| number(&updater.lease.owner) == process)
        };
        let sent = matches!(self.late,
            Some(Late::Claim { owner, .. } | Late::Commit { owner, .. } | Late::Fail { owner, .. }) if owner == process);
        (updates(&self.redis), self.replica.as_ref().is_some_and(updates), sent)
    }
}

/// Reads which of the issuer's tokens a secret is.
pub fn issue(secret: &str) -> u8 {
    secret.parse().expect("the model's secrets are numbers")
}

fn number(owner: &str) -> usize {
    owner.parse().expect("the model's owners are numbers")
}
