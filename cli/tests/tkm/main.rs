//! `tkm` as a process, on a real Redis, with a real issuer over HTTP.

mod agent;
mod exec;
mod get;
mod helpers;
mod obstacles;
mod operators;
mod packaging;
mod programs;
mod service;
mod stale;
mod support;
mod trail;
