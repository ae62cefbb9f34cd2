//! A store of your own, with no server: a file for each grant and egress, changed under a lock, for the processes of one host.
use rustix::fs::{FlockOperation, flock};
use std::time::{Duration, SystemTime};
use std::{fs, io, path::PathBuf};
use token_manager::store::rules::{EgressState, GrantState};
use token_manager::store::{StateBackend, StateStore, Step, StoreError, TokenName};
use token_manager::{Attempt, Fetched, TokenManager};

pub struct Folder(pub PathBuf);

impl StateBackend for Folder {
    fn update(&self, name: &TokenName, egress: Option<&str>, step: &mut Step<'_>) -> Result<(), StoreError> {
        let file = |what: &str, of: &str| self.0.join(format!("{} {} {what} {of}", name.namespace, name.group));
        let lock = fs::File::create(file("lock", ""))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?; // until it is dropped
        let (grant_file, egress_file) = (file("grant", &name.grant), file("egress", egress.unwrap_or_default()));
        let read = |file: &PathBuf| if file.try_exists()? { fs::read(file).map(Some) } else { Ok(None) };
        let mut grant = read(&grant_file)?.map_or(Ok(GrantState::default()), |bytes| GrantState::decode(&bytes))?;
        let mut pauses = read(&egress_file)?.map_or(Ok(EgressState::default()), |bytes| EgressState::decode(&bytes))?;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64;
        let _changes = step(now, &mut grant, &mut pauses); // nobody can subscribe: other processes poll
        for (kept, bytes) in [(grant_file, grant.encode()), (egress_file, pauses.encode())] {
            fs::write(file("new", ""), bytes)?;
            fs::rename(file("new", ""), kept)?;
        }
        Ok(())
    }
    fn timeout(&self) -> Duration {
        Duration::from_millis(100)
    }
}

#[allow(dead_code)] // the tests include this file
fn main() -> Result<(), token_manager::Error> {
    let store = StateStore(Folder(std::env::temp_dir()));
    let source = |_: &Attempt| Ok(Fetched::new("ask the issuer here", Duration::from_secs(60)));
    let manager = TokenManager::builder("billing-api").store(store).source(source).build()?;
    println!("generation {}, for every process of this host, for a minute", manager.get()?.generation());
    Ok(())
}
