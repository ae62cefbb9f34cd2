//! The algorithm that this library replaces: every request asks Redis; where the token is missing, each submits its id as
//! the updater, reads back who has won, and polls each millisecond until the token is there.

use redis::{Commands, Connection};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use token_manager_benches::measure::machine_time;
use token_manager_benches::sources::secret;

/// One connection for each thread: without the waits for a pool's.
pub struct Original(Vec<Mutex<Connection>>);

impl Original {
    pub fn connect(url: &str, threads: usize) -> Original {
        let client = redis::Client::open(url).expect("a valid URL");
        Original((0..threads).map(|_| Mutex::new(client.get_connection().expect("Redis"))).collect())
    }

    /// Returns once there is a token; `committed` is set to the moment it was stored, if this thread stored it.
    pub fn get(&self, thread: usize, name: &str, life: Duration, issuer: Duration, committed: &AtomicU64) {
        let mut redis = self.0[thread].lock().unwrap_or_else(PoisonError::into_inner);
        let (token, updater) = (format!("{name}:token"), format!("{name}:updater"));
        let id = format!("{}:{thread}", std::process::id());
        loop {
            if redis.get::<_, Option<String>>(&token).expect("Redis").is_some() {
                return;
            }
            let _: bool = redis.set_nx(&updater, &id).expect("Redis");
            if redis.get::<_, Option<String>>(&updater).expect("Redis").as_ref() == Some(&id) {
                thread::sleep(issuer);
                let set = redis::cmd("SET").arg(&token).arg(secret()).arg("PX").arg(life.as_millis() as u64).clone();
                set.exec(&mut redis).expect("Redis");
                committed.store(machine_time(), Ordering::SeqCst);
                let _: u64 = redis.del(&updater).expect("Redis");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
