//! The store in files beside what people would use instead on one host, under the same rules: a file that is replaced by a rename,
//! and a table of SQLite. What a claim with its commit costs, what a look, and how soon another process is awake.

#[path = "../../examples/custom_store.rs"]
mod custom_store;

use custom_store::Folder;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::io::{Read, Write, pipe};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{
    Claim, Claimed, Grant, Lease, Secret, StateBackend, StateStore, Step, StoreError, StoreErrorKind, TokenName,
};
use token_manager::{Budget, FileStore, Store};
use token_manager_benches::measure::{asked_for, machine_time, quantile};

const HOUR: Duration = Duration::from_secs(3600);
const ROUNDS: usize = 41;
const CALLS: usize = 50;
const WAKES: usize = 400;
const PROCESSES: usize = 8;

fn main() {
    if asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("a folder");
            #[cfg(unix)]
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
            path
        };
        let files = FileStore::open(path("files")).expect("a store");
        let candidates: [(&str, Box<dyn Store>, bool); 5] = [
            ("FileStore", Box::new(files.clone()), false),
            (
                "FileStore, with a carried secret, synced",
                Box::new(FileStore::open(path("carry")).expect("a store")),
                true,
            ),
            ("file and rename", Box::new(StateStore(Folder(path("rename")))), false),
            ("SQLite, WAL, NORMAL", Box::new(StateStore(Table::open(&path("normal"), "NORMAL"))), false),
            ("SQLite, WAL, FULL", Box::new(StateStore(Table::open(&path("full"), "FULL"))), false),
        ];
        costs(&candidates);
        crowd(&candidates);
        wakes(&files);
    }
}

/// A store of one table, as one would write it: a transaction a step.
struct Table(Mutex<Connection>);

impl Table {
    fn open(folder: &Path, synchronous: &str) -> Table {
        let table = Connection::open(folder.join("tokens")).expect("a database");
        table.busy_timeout(Duration::from_secs(2)).expect("a limit");
        table.pragma_update(None, "journal_mode", "WAL").expect("a log");
        table.pragma_update(None, "synchronous", synchronous).expect("a setting");
        table.execute("CREATE TABLE states (name TEXT PRIMARY KEY, state BLOB)", ()).expect("a table");
        Table(Mutex::new(table))
    }
}

impl StateBackend for Table {
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        let failed = |error: rusqlite::Error| StoreError::new(StoreErrorKind::Unreachable, "SQLite").because(error);
        let mut table = self.0.lock().expect("no panic");
        let change = table.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let read = |of: &str| {
            let mut found = change.prepare_cached("SELECT state FROM states WHERE name = ?1").map_err(failed)?;
            found.query_row([of], |row| row.get::<_, Vec<u8>>(0)).optional().map_err(failed)
        };
        let of_egress = egress.map(|egress| format!("{} {egress}", name.group));
        let (grant, pauses) = (read(&name.grant)?, of_egress.as_ref().map(|of| read(of)).transpose()?.flatten());
        let mut grant = grant.map_or(Ok(GrantState::default()), |bytes| GrantState::decode(&bytes))?;
        let mut pauses = pauses.map_or(Ok(EgressState::default()), |bytes| EgressState::decode(&bytes))?;
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
        step(now, &mut grant, &mut pauses);
        let write = |of: &str, bytes: Vec<u8>| {
            let mut put = change.prepare_cached("INSERT OR REPLACE INTO states VALUES (?1, ?2)").map_err(failed)?;
            put.execute((of, bytes)).map_err(failed)
        };
        write(&name.grant, grant.encode())?;
        of_egress.map(|of| write(&of, pauses.encode())).transpose()?;
        change.commit().map_err(failed)
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(2)
    }
}

fn name() -> TokenName {
    TokenName { namespace: "bench".into(), group: "g".into(), name: "t".into(), grant: "t".into() }
}

fn claim(store: &dyn Store, owner: &str, newer_than: u64) -> Claimed {
    let budget = Some(Budget::per_minute(60_000).burst(60_000));
    let claim = Claim { owner, attempt: 1, newer_than, lease: HOUR, budget, egress: "default" };
    store.claim(&name(), &claim).expect("a store that is well")
}

fn commit(store: &dyn Store, owner: &str, generation: u64, carries: bool) {
    let (value, carry) = (Secret::new("x".repeat(900)), carries.then(|| Secret::new("y".repeat(200))));
    let grant = Grant { value, left: HOUR, life: HOUR, age: None, carry, carry_lifetime: None };
    let lease = Lease { owner: owner.into(), attempt: 1, generation };
    store.commit(&name(), &lease, &grant).expect("a store that is well");
}

fn timed<T>(times: &mut Vec<f64>, call: impl FnOnce() -> T) -> T {
    let before = machine_time();
    let answer = call();
    times.push((machine_time() - before) as f64 / 1e3);
    answer
}

fn costs(candidates: &[(&str, Box<dyn Store>, bool)]) {
    let mut times: Vec<[Vec<f64>; 3]> = candidates.iter().map(|_| Default::default()).collect();
    let mut last = vec![0; candidates.len()];
    for _ in 0..ROUNDS {
        for (at, (_, store, carries)) in candidates.iter().enumerate() {
            let [claims, commits, looks] = &mut times[at];
            for _ in 0..CALLS {
                let granted = timed(claims, || claim(store, "a", last[at]));
                let Claimed::Granted { generation, .. } = granted else { panic!("{granted:?}") };
                timed(commits, || commit(store, "a", generation, *carries));
                timed(looks, || claim(store, "b", last[at]));
                last[at] = generation;
            }
        }
    }
    println!("a token of 900 bytes, {} of each in turns, µs p50 (p99)", ROUNDS * CALLS);
    println!("| | claim that is granted | commit | claim that finds a token |\n|---|---|---|---|");
    for ((name, ..), times) in candidates.iter().zip(&mut times) {
        let cells = times.each_mut().map(|times| format!("{:.1} ({:.0})", quantile(times, 0.5), quantile(times, 0.99)));
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// Has eight processes claim and commit back to back; SQLite is left out, which forbids connections across a fork.
fn crowd(candidates: &[(&str, Box<dyn Store>, bool)]) {
    println!("\n{PROCESSES} processes, grants back to back, 3 s");
    println!("| | grants a second | claim p50 ms | p99 | max |\n|---|---|---|---|---|");
    for (name, store, carries) in candidates.iter().filter(|(name, _, carries)| !carries && !name.starts_with("SQLite"))
    {
        let (mut told, teller) = pipe().expect("a pipe");
        let children: Vec<_> = (0..PROCESSES)
            .map(|number| {
                fork(|| {
                    let (owner, until) = (format!("{number}"), machine_time() + 3_000_000_000);
                    let (mut newest, mut times) = (0, Vec::new());
                    while machine_time() < until {
                        match timed(&mut times, || claim(store, &owner, newest)) {
                            Claimed::Granted { generation, .. } => commit(store, &owner, generation, *carries),
                            Claimed::Token(stored) => newest = stored.generation,
                            _ => drop(times.pop()),
                        }
                    }
                    let bytes: Vec<u8> = times.iter().flat_map(|time| time.to_le_bytes()).collect();
                    // One after the other, for the pipe holds less than that.
                    (&teller).write_all(&bytes).expect("a parent");
                })
            })
            .collect();
        drop(teller);
        let mut bytes = Vec::new();
        told.read_to_end(&mut bytes).expect("children");
        children.into_iter().for_each(wait);
        let mut times: Vec<f64> = bytes.as_chunks().0.iter().map(|time| f64::from_le_bytes(*time) / 1e3).collect();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| quantile(&mut times, part));
        println!("| {name} | {:.0} | {p50:.2} | {p99:.1} | {max:.0} |", times.len() as f64 / 3.0);
    }
}

/// Commits, and has other processes tell when they heard of it.
fn wakes(store: &FileStore) {
    println!("\nfrom the commit to the other process's wake-up, {WAKES} commits, µs");
    println!("| waiting processes | p50 | p99 |\n|---|---|---|");
    for waiters in [1, 8] {
        let (mut told, teller) = pipe().expect("a pipe");
        let children: Vec<_> = (0..waiters)
            .map(|_| {
                fork(|| {
                    let mut subscription = store.subscribe(&name()).expect("a subscription");
                    (&teller).write_all(&0u64.to_le_bytes()).expect("a parent");
                    for _ in 0..WAKES {
                        while subscription.wait(HOUR).expect("a change").is_none() {}
                        (&teller).write_all(&machine_time().to_le_bytes()).expect("a parent");
                    }
                })
            })
            .collect();
        let mut next = || {
            let mut number = [0; 8];
            told.read_exact(&mut number).expect("a child");
            u64::from_le_bytes(number)
        };
        (0..waiters).for_each(|_| assert_eq!(next(), 0));
        let mut times = Vec::new();
        for _ in 0..WAKES {
            let last = store.inspect(&name(), "default").expect("a store").granted;
            let Claimed::Granted { generation, .. } = claim(store, "a", last) else { panic!("it is granted") };
            std::thread::sleep(Duration::from_millis(3));
            let before = machine_time();
            commit(store, "a", generation, false);
            (0..waiters).for_each(|_| times.push(next().saturating_sub(before) as f64 / 1e3));
        }
        children.into_iter().for_each(wait);
        println!("| {waiters} | {:.0} | {:.0} |", quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    }
}

fn fork(run: impl FnOnce()) -> libc::pid_t {
    // SAFETY: this process has one thread; the child leaves through `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok();
            unsafe { libc::_exit(i32::from(!ran)) }
        }
        child => child,
    }
}

fn wait(child: libc::pid_t) {
    let mut status = -1;
    // SAFETY: it is our child, and nobody else waits for it.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "a child failed");
}
