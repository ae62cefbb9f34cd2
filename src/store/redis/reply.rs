//! Reads the scripts' replies. Whatever comes, the answer is a value or an error, never a panic.

use crate::error::FailureClass;
use crate::store::{
    Carried, Claimed, Committed, Inspection, Lease, Pause, Presence, StoreError, StoreErrorKind, Stored,
};
use crate::token::Secret;
use redis::Value;
use std::time::Duration;

/// A script's reply, not yet understood.
pub struct Reply(pub Value);

impl Reply {
    pub fn claimed(&self) -> Result<Claimed, StoreError> {
        self.read(|reply| match reply.word(0)? {
            "token" => reply.stored().map(Claimed::Token),
            "granted" => Some(Claimed::Granted { generation: reply.number(1)?, carry: reply.carried() }),
            "busy" => reply.millis(1).map(|lease_left| Claimed::Busy { lease_left }),
            "paused" => reply.pause().map(Claimed::Paused),
            "limited" => reply.millis(1).map(|retry_after| Claimed::Limited { retry_after }),
            _ => None,
        })
    }

    pub fn tokens(self, count: usize) -> Result<Vec<Option<Stored>>, StoreError> {
        let all = match self.0 {
            Value::Array(all) if all.len() == count => all,
            other => return Err(malformed(&other)),
        };
        let token = |reply: &Reply| match reply.word(0)? {
            "token" => reply.stored().map(Some),
            "none" => Some(None),
            _ => None,
        };
        all.into_iter().map(|one| Reply(one).read(token)).collect()
    }

    pub fn committed(&self) -> Result<Committed, StoreError> {
        self.read(|reply| match reply.word(0)? {
            "written" => Some(Committed::Written { doubted: reply.number(1)? == 1 }),
            "superseded" => reply.stored().map(Committed::Superseded),
            "invalid" => Some(Committed::Invalid),
            _ => None,
        })
    }

    pub fn presence(&self) -> Result<Presence, StoreError> {
        self.read(|reply| match reply.word(0)? {
            "ended" => Some(Presence::Ended),
            "assumed" => reply.number(1).map(|listeners| Presence::Assumed { listeners }),
            "missing" => {
                let (generation, owner, attempt) = (reply.number(1)?, reply.word(2)?.into(), reply.number(3)?);
                Some(Presence::Missing(Lease { owner, attempt, generation }))
            }
            "unknown" => Some(Presence::Unknown),
            _ => None,
        })
    }

    pub fn paused(&self) -> Result<Option<Pause>, StoreError> {
        self.read(|reply| match reply.word(0)? {
            "paused" => reply.pause().map(Some),
            "none" => Some(None),
            _ => None,
        })
    }

    pub fn flag(&self) -> Result<bool, StoreError> {
        match self.0 {
            Value::Int(answer) => Ok(answer == 1),
            _ => Err(malformed(&self.0)),
        }
    }

    pub fn inspection(&self) -> Result<Inspection, StoreError> {
        let present = |text: &&str| !text.is_empty();
        self.read(|reply| {
            let count = |at| reply.word(at).filter(present).map_or(Some(0), |text| text.parse().ok());
            let token = reply.word(0).filter(present).map(|generation| generation.parse().ok().zip(reply.millis(1)));
            let updater = reply.word(2).filter(present).map(|lease| Some(lease.to_owned()).zip(reply.millis(3)));
            let class = reply.word(8).filter(present).map(FailureClass::parse);
            let retry_after = reply.millis(7)?;
            Some(Inspection {
                token: token.map_or(Some(None), |token| token.map(Some))?,
                updater: updater.map_or(Some(None), |updater| updater.map(Some))?,
                granted: count(4)?,
                invalidated: count(5)?,
                doubted: count(6)?,
                pause: class.filter(|_| !retry_after.is_zero()).map(|class| Pause { retry_after, class }),
                fails: count(9)?,
                carries: count(10)? > 0,
                budget_spent: Duration::from_micros(reply.number(11)?),
            })
        })
    }

    fn read<T>(&self, understand: impl FnOnce(&Reply) -> Option<T>) -> Result<T, StoreError> {
        understand(self).ok_or_else(|| malformed(&self.0))
    }

    fn carried(&self) -> Option<Carried> {
        Some(Carried { secret: Secret::new(self.word(2)?), generation: self.number(3)?, presented: self.millis(4) })
    }

    fn stored(&self) -> Option<Stored> {
        Some(Stored {
            generation: self.number(1)?,
            value: Secret::new(self.word(2)?),
            left: self.millis(3)?,
            life: self.millis(4)?,
            doubted: self.number(5)? == 1,
        })
    }

    fn pause(&self) -> Option<Pause> {
        Some(Pause { retry_after: self.millis(1)?, class: FailureClass::parse(self.word(2)?) })
    }

    fn word(&self, at: usize) -> Option<&str> {
        let Value::Array(items) = &self.0 else { return None };
        match items.get(at)? {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            Value::SimpleString(text) => Some(text),
            _ => None,
        }
    }

    fn number(&self, at: usize) -> Option<u64> {
        let Value::Array(items) = &self.0 else { return None };
        match items.get(at)? {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => self.word(at)?.parse().ok(),
        }
    }

    fn millis(&self, at: usize) -> Option<Duration> {
        self.number(at).map(Duration::from_millis)
    }
}

/// Returns a reply that Redis cannot have sent to one of the scripts as an error.
pub fn malformed(value: &Value) -> StoreError {
    // The value itself could hold a secret: only its form is told.
    let form = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list of another form",
        _ => "something else",
    };
    StoreError::new(StoreErrorKind::Malformed, format!("the store answered {form} where a script's reply was expected"))
}
