//! A token's log: a capped stream beside its keys, for whoever wants to know later who fetched what.

use super::reply::malformed;
use super::{RedisStore, key};
use crate::store::{StoreError, TokenName};
use redis::Value;
use std::time::{Duration, SystemTime};

/// An entry of a token's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its place in the log: entries are in the order in which the store took them.
    pub id: String,
    /// When the store took it, by the store's own clock.
    pub at: SystemTime,
    /// What it tells, as names and values.
    pub fields: Vec<(String, String)>,
}

impl LogEntry {
    /// Returns what the entry tells under this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl RedisStore {
    /// Adds an entry to the token's log, of which about so many entries are kept, for 30 days after the last one. `entry` is what this
    /// entry has and no other: the same one added again is not there twice. Neither it nor the fields may hold a secret. The user
    /// needs XADD and XREVRANGE.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    pub fn append_log(
        &self,
        name: &TokenName,
        keep: u32,
        entry: &str,
        fields: &[(&str, &str)],
    ) -> Result<(), StoreError> {
        let keep = keep.to_string();
        let fields = fields.iter().flat_map(|(field, value)| [field.as_bytes(), value.as_bytes()]);
        let args: Vec<&[u8]> = [keep.as_bytes(), entry.as_bytes()].into_iter().chain(fields).collect();
        self.run(&self.0.scripts.append_log, &[&key(name, "log")], &args)?.flag().map(drop)
    }

    /// Returns the last entries of the token's log, or the first ones after the one with this id, the oldest first. The user needs
    /// XRANGE and XREVRANGE.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be asked or refuses.
    pub fn read_log(&self, name: &TokenName, count: u32, after: Option<&str>) -> Result<Vec<LogEntry>, StoreError> {
        let (count, after) = (count.to_string(), after.unwrap_or_default());
        let reply = self.run(&self.0.scripts.read_log, &[&key(name, "log")], &[count.as_bytes(), after.as_bytes()])?.0;
        let Value::Array(entries) = &reply else { return Err(malformed(&reply)) };
        entries.iter().map(|entry| read(entry).ok_or_else(|| malformed(&reply))).collect()
    }
}

fn read(entry: &Value) -> Option<LogEntry> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(told)] = &parts[..] else { return None };
    let id = text(id)?;
    let millis = id.split('-').next()?.parse().ok()?;
    let told: Vec<String> = told.iter().map(text).collect::<Option<_>>()?;
    let pairs = told.chunks_exact(2).filter(|pair| pair[0] != "entry");
    let fields = pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))?;
    Some(LogEntry { id, at, fields })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}
