//! One token for every thread: in this process, or in every process that is given the URL of one Redis.
use std::time::Duration;
use token_manager::{Attempt, Error, Fetched, MemoryStore, TokenManager};

fn main() -> Result<(), Error> {
    let builder = TokenManager::builder("billing-api");
    let builder = match std::env::args().nth(1) {
        Some(url) => builder.redis(&url)?, // redis://127.0.0.1:6379/
        None => builder.store(MemoryStore::new()),
    };
    let source = |attempt: &Attempt| {
        println!("asking the issuer, {:?} left", attempt.remaining());
        Ok(Fetched::new("ask the issuer here", Duration::from_secs(60)))
    };
    let manager = builder.source(source).build()?;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| match manager.get() {
                Ok(token) => println!("{} for {:.0?}", token.secret(), token.expires_in()),
                Err(error) => eprintln!("no token: {error}"),
            });
        }
    });
    Ok(())
}
