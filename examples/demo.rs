//! The demo: 100 threads in batches of 25 need a token that lives 5 seconds, from an issuer that takes up to 8.
//! It shows who updates the token, each new token, and which token each thread got after which wait.

use crossbeam::channel::{self, Sender};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::client;
use testbed::issuer::Issuer;
use testbed::options::{Arguments, duration, explain, finish, number, range, show, some_time, text};
use testbed::redis_server::RedisServer;
use token_manager::{Builder, Event, Fetched, Token, TokenManager};

const HELP: &str = "\
100 threads share one short-lived token. The tokens are made up by the demo's issuer, so the demo may print them; nothing
else should ever print a token. RUST_LOG=token_manager=debug shows the decisions of the library.

Usage: cargo run --release --example demo -- [options]
  --threads N     OS threads (100)
  --batch N       how many of them ask at once (25)
  --rest T        rest between batches (1s)
  --rounds N      how often every thread asks; from the second round on, tokens fall due and expire (2)
  --life T        how long a token is valid (5s)
  --latency A..B  how long the issuer takes (4s..8s)
  --rate N        what the issuer answers a minute for one IP (60), further requests get 429
  --deadline T    how long a thread waits for a token (30s)
  --issuer URL    use the issuer at this URL, such as `cargo run --example issuer` runs, instead of one inside the demo;
                  --latency, --life and --rate are its own then
  --file DIR      meet in files of this folder: several demos of this host share the token, without a server
  --redis URL     use this Redis, so that several demos share the token (REDIS_URL; else a private redis-server or
                  valkey-server; else files in a folder of their own)
Durations are written 500ms, 5s, 2m or 2h.";

struct Settings {
    threads: usize,
    batch: usize,
    rest: Duration,
    rounds: usize,
    deadline: Duration,
    issuer: testbed::issuer::Options,
    issuer_url: Option<String>,
    file: Option<String>,
    redis: Option<String>,
}

/// What one thread got in one round.
struct Served {
    thread: usize,
    waited: Duration,
    token: Result<Token, token_manager::Error>,
}

fn main() -> ExitCode {
    env_logger::init();
    finish(read_settings().and_then(|settings| match settings {
        Some(settings) => run(&settings),
        None => {
            println!("{HELP}");
            Ok(())
        }
    }))
}

fn run(settings: &Settings) -> Result<(), String> {
    let (url, _issuer) = match &settings.issuer_url {
        Some(url) => (url.clone(), None),
        None => {
            let issuer = Issuer::start("127.0.0.1:0", settings.issuer.clone());
            let issuer = issuer.map_err(|error| format!("cannot start the issuer: {error}"))?;
            (issuer.url(), Some(issuer))
        }
    };
    println!("issuer   {url}");
    let fetches = Arc::new(AtomicU64::new(0));
    // Declared before the manager, so that it ends after it.
    let mut place = Place::default();
    let manager = with_store(TokenManager::builder("demo"), settings, &mut place)?
        .source(source(url, fetches.clone()))
        .observer(show_trouble)
        .fetch_limit(settings.issuer.latency_max + Duration::from_secs(5))
        .deadline(settings.deadline)
        .build()
        .map_err(|error| explain(&error))?;

    let pool = Pool::start(settings.threads)?;
    let mut served = 0;
    let mut generations = BTreeSet::new();
    let mut longest = Duration::ZERO;
    for round in 0..settings.rounds {
        for (batch, threads) in pool.workers.chunks(settings.batch).enumerate() {
            if round + batch > 0 {
                thread::sleep(settings.rest);
            }
            println!("round {}, batch {}: {} threads ask for the token", round + 1, batch + 1, threads.len());
            for result in ask_all(threads, &manager) {
                longest = longest.max(result.waited);
                served += usize::from(result.token.is_ok());
                generations.extend(result.token.as_ref().map(Token::generation).ok());
                print_served(&result);
            }
        }
    }
    let calls = settings.threads * settings.rounds;
    println!("\nthreads served  {served} of {calls} ({} threads × {} rounds)", settings.threads, settings.rounds);
    println!("fetches         {}", fetches.load(Ordering::Relaxed));
    println!("token lives     {}", generations.len());
    println!("longest wait    {}", show(longest));
    match served == calls {
        true => Ok(()),
        false => Err(format!("{} of {calls} calls got no token; see the lines above", calls - served)),
    }
}

/// Where the tokens of this run are, until it ends.
#[derive(Default)]
struct Place {
    redis: Option<RedisServer>,
    folder: Option<tempfile::TempDir>,
}

fn with_store(builder: Builder, settings: &Settings, place: &mut Place) -> Result<Builder, String> {
    if let Some(folder) = &settings.file {
        println!("store    files in {folder}; another demo with the same --file shares the token");
        return Ok(builder.file(folder));
    }
    if let Some(url) = &settings.redis {
        println!("store    the given Redis");
        return builder.redis(url).map_err(|error| explain(&error));
    }
    if RedisServer::find().is_none() {
        let folder = tempfile::tempdir().map_err(|error| format!("no folder can be made: {error}"))?;
        let folder = place.folder.insert(folder).path();
        println!("store    files in {}; with --file, several demos share a token", folder.display());
        return Ok(builder.file(folder));
    }
    let server = place.redis.insert(RedisServer::start()?);
    println!("store    a private Redis at {}", server.url());
    builder.redis(&server.url()).map_err(|error| explain(&error))
}

fn source(
    url: String,
    fetches: Arc<AtomicU64>,
) -> impl Fn(&token_manager::Attempt) -> Result<Fetched, token_manager::FetchError> + Send + Sync + 'static {
    let agent = client::agent();
    move |attempt| {
        println!("  updater {} is asking the issuer for a token", attempt.owner());
        fetches.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let issued = client::ask(&agent, &url, attempt.remaining())?;
        let took = show(started.elapsed());
        let (secret, life) = (&issued.secret, show(issued.life));
        println!("  new token {secret}, generated at {}, the issuer took {took}, it lives {life}", time_of_day());
        Ok(Fetched::new(issued.secret, issued.life))
    }
}

fn show_trouble(event: &Event) {
    match event {
        Event::Failed { .. } | Event::Limited { .. } | Event::StoreFailed { .. } | Event::Abandoned { .. } => {
            println!("  {event}");
        }
        _ => {}
    }
}

fn ask_all(threads: &[Worker], manager: &TokenManager) -> impl Iterator<Item = Served> {
    let (sender, results) = channel::unbounded();
    for worker in threads {
        let (manager, sender, thread) = (manager.clone(), sender.clone(), worker.number);
        worker.run(move || {
            let started = Instant::now();
            let token = manager.get();
            // Nobody listens any more only when the demo is over.
            let _ = sender.send(Served { thread, waited: started.elapsed(), token });
        });
    }
    results.into_iter()
}

fn print_served(served: &Served) {
    let (thread, waited) = (served.thread, show(served.waited));
    match &served.token {
        Ok(token) => println!("  thread {thread:3} got {} after {waited}", token.secret()),
        Err(error) => println!("  thread {thread:3} got no token after {waited}: {}", explain(error)),
    }
}

fn time_of_day() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Threads that each wait for their next job; dropping the pool ends them.
struct Pool {
    workers: Vec<Worker>,
}

struct Worker {
    number: usize,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Pool {
    fn start(threads: usize) -> Result<Pool, String> {
        let workers = (1..=threads).map(|number| {
            let (jobs, queue) = channel::unbounded::<Job>();
            let run = move || queue.into_iter().for_each(|job| job());
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(run);
            let thread =
                thread.map_err(|error| format!("cannot start thread {number}: {error}; use fewer --threads"))?;
            Ok(Worker { number, jobs: Some(jobs), thread: Some(thread) })
        });
        Ok(Pool { workers: workers.collect::<Result<_, String>>()? })
    }
}

impl Worker {
    fn run(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(jobs) = &self.jobs {
            // Fails only if a job panicked; its missing line shows it.
            let _ = jobs.send(Box::new(job));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_settings() -> Result<Option<Settings>, String> {
    let mut issuer = testbed::issuer::Options { rate: 60, burst: 10, ..Default::default() };
    (issuer.latency_min, issuer.latency_max) = range("4s..8s")?;
    let mut settings = Settings {
        threads: 100,
        batch: 25,
        rest: Duration::from_secs(1),
        rounds: 2,
        deadline: Duration::from_secs(30),
        issuer,
        issuer_url: None,
        file: None,
        redis: std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty()),
    };
    let mut arguments = Arguments::from_env();
    while let Some(option) = arguments.next_option()? {
        let issuer = &mut settings.issuer;
        match option.as_str() {
            "threads" => settings.threads = arguments.value(number(1, 10_000))?,
            "batch" => settings.batch = arguments.value(number(1, 10_000))?,
            "rest" => settings.rest = arguments.value(duration)?,
            "rounds" => settings.rounds = arguments.value(number(1, 1_000_000))?,
            "life" => issuer.life = arguments.value(some_time)?,
            "latency" => (issuer.latency_min, issuer.latency_max) = arguments.value(range)?,
            "rate" => issuer.rate = arguments.value(number(0, 1_000_000))?,
            "deadline" => settings.deadline = arguments.value(some_time)?,
            "issuer" => settings.issuer_url = Some(arguments.value(text)?),
            "file" => settings.file = Some(arguments.value(text)?),
            "redis" => settings.redis = Some(arguments.value(text)?),
            "help" => return Ok(None),
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(Some(settings))
}
