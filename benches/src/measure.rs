//! Measures by CPU time of the calling thread, so that a busy machine changes the figures little, and in short batches
//! taken in turns, so that what it does change it changes for all candidates alike.

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

/// Returns the nanoseconds of CPU time that one call takes, each thread calling with a state of its own: the median of
/// the threads.
pub fn per_call<S, T>(threads: usize, calls: u32, state: impl Fn() -> S + Sync, call: impl Fn(&S) -> T + Sync) -> f64 {
    let start = Barrier::new(threads);
    let run = || {
        let own = state();
        for _ in 0..calls / 20 {
            black_box(call(&own));
        }
        start.wait();
        let before = thread_time();
        for _ in 0..calls {
            black_box(call(black_box(&own)));
        }
        (thread_time() - before) as f64 / f64::from(calls)
    };
    let mut times: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().expect("a measured call panicked")).collect()
    });
    quantile(&mut times, 0.5)
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
