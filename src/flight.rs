//! The flights of a process: each claims, then fetches and commits, or waits for the process that does.

pub mod fetch;
pub mod run;
pub mod settle;
pub mod single;
pub mod updater_wait;
