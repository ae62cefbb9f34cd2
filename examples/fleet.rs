//! The fleet: many processes of many threads use one token through one Redis, and a table shows what that cost.
//! It ends with an error if the fleet fetched more than it had to.

use indicatif::{ProgressBar, ProgressStyle};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testbed::fleet::Fleet;
use testbed::fleet_child::{self, Orders};
use testbed::issuer::{Issuer, Options};
use testbed::options::{Arguments, duration, finish, number, range, show, some_time, text};
use testbed::redis_server::{RedisServer, ask};

const HELP: &str = "\
Many processes use one token through one Redis. Counts what the issuer and Redis were asked, and how long calls waited.

Usage: cargo run --release --example fleet -- [options]
  --for T            how long (30s)
  --processes N      (8)
  --threads N        threads of each process (25)
  --pace T           pause of a thread between two calls (10ms; 100ms with --revoke-on-issue)
  --life T           how long a token is valid (5s)
  --latency A..B     how long the issuer takes (500ms..2s)
  --keep-fresh       every process keeps its token fresh on a thread of its own
  --revoke-on-issue  the issuer revokes the old token when it issues a new one; every call shows its token to the issuer
  --kill-updater     kill the process that is fetching, once
  --redis URL        use this Redis (REDIS_URL; else a private redis-server or valkey-server)
Durations are written 500ms, 5s, 2m or 2h.";

struct Settings {
    lasting: Duration,
    processes: usize,
    threads: usize,
    pace: Option<Duration>,
    keep_fresh: bool,
    kill_updater: bool,
    issuer: Options,
    redis: Option<String>,
    /// The token's name and the issuer's URL, told to the children only.
    child: Option<String>,
    issuer_url: String,
}

/// The numbers of one run at the moment when every fetched token was in use.
struct Bill {
    lives: u64,
    fetches: u64,
    max_in_flight: u64,
    scripts: u64,
    subscriptions: u64,
}

fn main() -> ExitCode {
    env_logger::init();
    finish(read_settings().and_then(|settings| match settings {
        Some(settings) if settings.child.is_some() => fleet_child::run(settings.orders()),
        Some(settings) => run(&settings),
        None => {
            println!("{HELP}");
            Ok(())
        }
    }))
}

fn run(settings: &Settings) -> Result<(), String> {
    let server = match settings.redis {
        Some(_) => None,
        None => Some(RedisServer::start()?),
    };
    let redis = settings.redis.clone().or(server.as_ref().map(RedisServer::url)).unwrap_or_default();
    let issuer = Issuer::start("127.0.0.1:0", settings.issuer.clone());
    let issuer = issuer.map_err(|error| format!("cannot start the issuer: {error}"))?;
    let name = format!("fleet-{:08x}", getrandom::u32().map_err(|error| error.to_string())?);
    let before = redis_calls(&redis)?;
    let arguments = ["--child", &name, "--issuer", &issuer.url(), "--redis", &redis];
    let mut fleet = Fleet::start(settings.processes, &arguments)?;
    let mut bill = watch(settings, &mut fleet, &issuer, &redis, &name)?;
    let after = redis_calls(&redis)?;
    (bill.scripts, bill.subscriptions) = (after.0 - before.0, after.1 - before.1);
    fleet.end();
    if server.is_none() {
        forget(&redis, &name)?;
    }
    print_table(settings, &fleet, &bill);
    judge(&fleet, &bill)
}

/// Watches the fleet until its time is over and every token that was fetched is in use.
fn watch(settings: &Settings, fleet: &mut Fleet, issuer: &Issuer, redis: &str, name: &str) -> Result<Bill, String> {
    let started = Instant::now();
    let bar = ProgressBar::new(settings.lasting.as_millis() as u64);
    let style = ProgressStyle::with_template("{wide_bar} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    let limit = settings.lasting + settings.issuer.latency_max + Duration::from_secs(5);
    loop {
        let fetching = fleet.listen(Duration::from_millis(50));
        let elapsed = started.elapsed();
        if fetching && settings.kill_updater && fleet.killed.is_none() && elapsed > settings.lasting / 3 {
            // Killed before the request it would prove nothing.
            issuer.wait_for(|stats| stats.in_flight > 0, Duration::from_millis(200));
            let updater = ask(redis, &["GET", &format!("tm:{{{name}}}:{name}:updater")])?;
            fleet.kill(updater.split(':').nth(1).unwrap_or_default());
        }
        let (counts, stats) = (fleet.counts(), issuer.stats());
        bar.set_position(elapsed.min(settings.lasting).as_millis() as u64);
        bar.set_message(format!("{} lives, {} calls, {} errors", fleet.used.len(), counts.calls, counts.errors));
        let lives = fleet.used.len() as u64;
        let settled = stats.in_flight == 0 && stats.asked == lives + of_killed(fleet);
        if elapsed > limit || elapsed > settings.lasting && settled {
            bar.finish_and_clear();
            let (fetches, max_in_flight) = (stats.asked, stats.max_in_flight);
            return Ok(Bill { lives, fetches, max_in_flight, scripts: 0, subscriptions: 0 });
        }
    }
}

/// The fetch whose answer died with its process.
fn of_killed(fleet: &Fleet) -> u64 {
    u64::from(fleet.killed.is_some())
}

fn print_table(settings: &Settings, fleet: &Fleet, bill: &Bill) {
    let (counts, waits) = (fleet.counts(), &fleet.waits);
    let (lives, of_killed) = (bill.lives.max(1), of_killed(fleet));
    let per_process_and_life = |calls: u64| format!("{:.2}", calls as f64 / settings.processes as f64 / lives as f64);
    let fetches_per_life = bill.fetches.saturating_sub(of_killed) as f64 / lives as f64;
    let (p50, p99) = (show(waits.quantile(0.5)), show(waits.quantile(0.99)));
    let mut rows = vec![
        ("processes × threads", format!("{} × {}", settings.processes, settings.threads), ""),
        ("calls", counts.calls.to_string(), ""),
        ("token lives used", bill.lives.to_string(), ""),
        ("fetches", bill.fetches.to_string(), if of_killed > 0 { "one of them by the killed process" } else { "" }),
        ("fetches per generation used", format!("{fetches_per_life:.2}"), "must be 1.00"),
        (
            "most fetches in flight",
            bill.max_in_flight.to_string(),
            if of_killed > 0 {
                "must be 1; 2 while the issuer still works for the killed process"
            } else {
                "must be 1"
            },
        ),
        (
            "waits p50 / p99 / max",
            format!("{p50} / {p99} / {}", show(waits.longest())),
            "from the start, so with the first fetch",
        ),
        ("scripts per process and life", per_process_and_life(bill.scripts), "evalsha and eval"),
        ("subscribes per process and life", per_process_and_life(bill.subscriptions), ""),
        ("errors", counts.errors.to_string(), ""),
    ];
    if settings.issuer.revoke_on_issue {
        rows.push(("rejected, call under way", counts.overtaken.to_string(), "when the token was revoked"));
        let stalest = show(Duration::from_micros(counts.stalest_us));
        rows.push(("rejected, call begun later", counts.stale.to_string(), ""));
        rows.push(("latest of these after", stalest, "counted from the revocation"));
    }
    if let Some(killed) = &fleet.killed {
        let after = |time: Option<Duration>| time.map_or("never".into(), show);
        rows.push(("take-over after the kill", after(killed.taken_over), "must be within 600 ms; the lease is 3 s"));
        rows.push(("new token after the kill", after(killed.replaced), ""));
    } else if settings.kill_updater {
        rows.push(("take-over after the kill", "nobody was killed".into(), "use a longer --for"));
    }
    for (what, value, remark) in rows {
        println!("{what:<33}{value:<28} {remark}");
    }
    fleet.troubles.iter().take(5).for_each(|trouble| println!("trouble: {trouble}"));
}

fn judge(fleet: &Fleet, bill: &Bill) -> Result<(), String> {
    let Bill { lives, fetches, max_in_flight, .. } = *bill;
    let of_killed = of_killed(fleet);
    match () {
        () if lives == 0 => Err("no thread got any token; see the troubles above".into()),
        () if fetches != lives + of_killed => Err(format!("{fetches} fetches for {lives} token lives")),
        () if max_in_flight > 1 + of_killed => Err(format!("{max_in_flight} fetches were in flight at once")),
        () if fleet.counts().errors > 0 => Err(format!("{} calls failed", fleet.counts().errors)),
        () => Ok(()),
    }
}

/// Returns how many scripts and subscriptions this Redis has run since it started.
fn redis_calls(redis: &str) -> Result<(u64, u64), String> {
    let info = ask(redis, &["INFO", "commandstats"])?;
    let calls = |command: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()).and_then(|calls| calls.parse().ok()).unwrap_or(0)
    };
    Ok((calls("evalsha") + calls("eval"), calls("subscribe")))
}

/// Leaves nothing behind in somebody's Redis.
fn forget(redis: &str, name: &str) -> Result<(), String> {
    let keys = ["token", "updater", "meta", "carry"].map(|key| format!("tm:{{{name}}}:{name}:{key}"));
    let budget = format!("tm:{{{name}}}:budget:default");
    let command: Vec<&str> = ["DEL", &budget].into_iter().chain(keys.iter().map(String::as_str)).collect();
    ask(redis, &command).map(drop)
}

impl Settings {
    fn orders(self) -> Orders {
        let fetch_limit = self.issuer.latency_max + Duration::from_secs(5);
        let pace = if self.issuer.revoke_on_issue { 100 } else { 10 };
        Orders {
            name: self.child.unwrap_or_default(),
            redis: self.redis.unwrap_or_default(),
            issuer: self.issuer_url,
            threads: self.threads,
            pace: self.pace.unwrap_or(Duration::from_millis(pace)),
            fetch_limit,
            deadline: fetch_limit * 2,
            keep_fresh: self.keep_fresh,
            verify: self.issuer.revoke_on_issue,
        }
    }
}

fn read_settings() -> Result<Option<Settings>, String> {
    let mut settings = Settings {
        lasting: Duration::from_secs(30),
        processes: 8,
        threads: 25,
        pace: None,
        keep_fresh: false,
        kill_updater: false,
        issuer: Options::default(),
        redis: std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty()),
        child: None,
        issuer_url: String::new(),
    };
    (settings.issuer.latency_min, settings.issuer.latency_max) = range("500ms..2s")?;
    let mut arguments = Arguments::from_env();
    while let Some(option) = arguments.next_option()? {
        let issuer = &mut settings.issuer;
        match option.as_str() {
            "for" => settings.lasting = arguments.value(some_time)?,
            "processes" => settings.processes = arguments.value(number(1, 1_000))?,
            "threads" => settings.threads = arguments.value(number(1, 10_000))?,
            "pace" => settings.pace = Some(arguments.value(duration)?),
            "life" => issuer.life = arguments.value(some_time)?,
            "latency" => (issuer.latency_min, issuer.latency_max) = arguments.value(range)?,
            "keep-fresh" => settings.keep_fresh = true,
            "revoke-on-issue" => issuer.revoke_on_issue = true,
            "kill-updater" => settings.kill_updater = true,
            "redis" => settings.redis = Some(arguments.value(text)?),
            "child" => settings.child = Some(arguments.value(text)?),
            "issuer" => settings.issuer_url = arguments.value(text)?,
            "help" => return Ok(None),
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(Some(settings))
}
