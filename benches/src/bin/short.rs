//! A program that lives for one token, as a cron job does: prints how many bytes it has. `short REDIS_URL [background]`.

use std::env;
use std::time::Duration;
use token_manager::{Attempt, Execution, Fetched, RedisStore, TokenManager};
use token_manager_benches::sources::secret;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::args().nth(1).ok_or("short REDIS_URL [background]")?;
    let builder = match env::args().nth(2) {
        None => {
            let store = RedisStore::options(&url).without_thread().open()?;
            TokenManager::builder("short").store(store).execution(Execution::Inline)
        }
        Some(_) => TokenManager::builder("short").redis(&url)?,
    };
    let source = |_: &Attempt| Ok(Fetched::new(secret(), Duration::from_secs(86_400)));
    println!("{}", builder.source(source).build()?.get()?.secret().len());
    Ok(())
}
