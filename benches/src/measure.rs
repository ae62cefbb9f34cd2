//! Measures in short batches taken in turns, so that what a busy machine changes it changes for all candidates alike.

use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

/// Returns whether the program was started by `cargo bench`, not by a test run over all targets.
pub fn asked_for() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// Returns the nanoseconds that the calling thread has run so far.
pub fn thread_time() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

/// Returns the nanoseconds of the monotonic clock, which all processes of a machine share.
pub fn machine_time() -> u64 {
    nanos(ClockId::Monotonic)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds per call.
#[derive(Clone, Copy)]
pub struct Cost {
    /// What the thread computed. A busy machine changes it little, but it leaves out what the thread slept for a lock.
    pub cpu: f64,
    /// What passed, sleep and other threads' turns included.
    pub elapsed: f64,
}

/// Returns what one call costs, each thread calling with a state of its own: the median of the threads.
pub fn per_call<S, T>(threads: usize, calls: u32, state: impl Fn() -> S + Sync, call: impl Fn(&S) -> T + Sync) -> Cost {
    let start = Barrier::new(threads);
    let run = || {
        let own = state();
        let mut took = (0, 0);
        // Warm up, then measure: in one place, so that the compiler may put any candidate's call into the loop.
        for batch in [calls / 20, calls] {
            start.wait();
            let before = (thread_time(), machine_time());
            for _ in 0..batch {
                black_box(call(black_box(&own)));
            }
            took = (thread_time() - before.0, machine_time() - before.1);
        }
        took
    };
    let times: Vec<(u64, u64)> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("a measured call panicked")).collect()
    });
    let median = |of: fn(&(u64, u64)) -> u64| {
        let mut nanos: Vec<f64> = times.iter().map(|took| of(took) as f64 / f64::from(calls)).collect();
        quantile(&mut nanos, 0.5)
    };
    Cost { cpu: median(|took| took.0), elapsed: median(|took| took.1) }
}

/// Returns the value below which this part of the values lies; sorts them.
///
/// # Panics
/// If there are no values.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    values[((last as f64) * part).round() as usize]
}

/// Returns the median of `values[i] / others[i]`, which were measured in turns.
pub fn ratio(values: &[f64], others: &[f64]) -> f64 {
    let mut ratios: Vec<f64> = values.iter().zip(others).map(|(value, other)| value / other).collect();
    quantile(&mut ratios, 0.5)
}
