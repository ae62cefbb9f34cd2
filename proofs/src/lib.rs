//! What the checks share: chance from a seed, so that a printed seed repeats a run.
#![forbid(unsafe_code)]
