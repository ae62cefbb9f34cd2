//! What the benches, tests and programs of this package share. Nothing here is part of `token-manager`.

pub mod allocations;
pub mod measure;
#[cfg(target_os = "linux")]
pub mod seal;
pub mod simulation;
pub mod sources;
