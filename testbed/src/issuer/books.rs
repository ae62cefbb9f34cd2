//! The issuer's books: how it behaves, which tokens are valid, what each source IP may still ask, and the counts.
//! No socket and no thread; time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const REMEMBERED: usize = 1_000;

/// What `/token` does instead of issuing a sound token.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    Status(u16),
    Throttle {
        retry_after: Option<u64>,
    },
    /// Takes the request and never answers.
    Hang,
    /// Issues a token and loses half of the answer.
    TruncatedBody,
    LifeZero,
    LifeNegative,
    LifeHuge,
    EmptyToken,
    Garbage,
}

/// How the issuer behaves; `Issuer::set` changes it at run time.
#[derive(Clone, Debug)]
pub struct Options {
    pub latency_min: Duration,
    pub latency_max: Duration,
    pub life: Duration,
    /// Answers a minute for one source IP; 0 means no limit.
    pub rate: u32,
    pub burst: u32,
    /// Whether a 429 of the rate limit carries Retry-After.
    pub retry_after: bool,
    /// Which share of the requests gets a 500, from 0 to 1.
    pub failure_rate: f64,
    /// Only the newest token is valid.
    pub revoke_on_issue: bool,
    /// `/verify` answers 401 to every token.
    pub reject_all: bool,
    pub fault: Fault,
    /// Serves `/control`, which lets other processes change the options.
    pub control: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            latency_min: Duration::ZERO,
            latency_max: Duration::ZERO,
            life: Duration::from_secs(5),
            rate: 0,
            burst: 1,
            retry_after: true,
            failure_rate: 0.0,
            revoke_on_issue: false,
            reject_all: false,
            fault: Fault::None,
            control: false,
        }
    }
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests to `/token`, whatever became of them.
    pub asked: u64,
    /// Tokens made valid.
    pub issued: u64,
    /// 429 answers.
    pub refused: u64,
    /// Answers that a fault or the failure rate spoiled without a token being issued.
    pub failed: u64,
    pub in_flight: u64,
    pub max_in_flight: u64,
    pub verified: u64,
    pub rejected: u64,
    /// When the last tokens became valid, in milliseconds since 1970.
    pub issued_at: VecDeque<u64>,
}

struct Issued {
    secret: String,
    valid_until: Instant,
}

pub struct Books {
    pub options: Options,
    pub held: bool,
    pub stopping: bool,
    pub stats: Stats,
    tokens: VecDeque<Issued>,
    /// The theoretical arrival time of each source IP.
    limits: HashMap<Option<IpAddr>, Instant>,
}

impl Books {
    pub fn new(options: Options) -> Books {
        Books {
            options,
            held: false,
            stopping: false,
            stats: Stats::default(),
            tokens: VecDeque::new(),
            limits: HashMap::new(),
        }
    }

    /// Makes a new token valid and returns the answer that carries it; `lifetime` is what the answer says of its life.
    pub fn issue(&mut self, now: Instant, life: Duration, lifetime: &str) -> String {
        if self.options.revoke_on_issue {
            self.revoke(now);
        }
        self.stats.issued += 1;
        let secret = format!("token-{}-{:016x}", self.stats.issued, random());
        let answer = format!(r#"{{"access_token":"{secret}","token_type":"Bearer",{lifetime}}}"#);
        self.tokens.push_back(Issued { secret, valid_until: now + life });
        if self.tokens.len() > REMEMBERED {
            self.tokens.pop_front();
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.stats.issued_at.push_back(since_1970.as_millis() as u64);
        if self.stats.issued_at.len() > REMEMBERED {
            self.stats.issued_at.pop_front();
        }
        answer
    }

    pub fn revoke(&mut self, now: Instant) {
        for token in &mut self.tokens {
            token.valid_until = token.valid_until.min(now);
        }
    }

    /// How long the token has been invalid: zero for a valid one, none for one that was never issued.
    pub fn invalid_for(&self, now: Instant, secret: &str) -> Option<Duration> {
        let token = self.tokens.iter().rev().find(|token| token.secret == secret)?;
        match now < token.valid_until {
            true => Some(Duration::ZERO),
            false => Some((now - token.valid_until).max(Duration::from_micros(1))),
        }
    }

    /// Charges one request to the source IP, or says how long it must wait.
    pub fn limited(&mut self, now: Instant, from: Option<IpAddr>) -> Option<Duration> {
        if self.options.rate == 0 {
            return None;
        }
        let emission = Duration::from_secs(60) / self.options.rate;
        let tolerance = emission * self.options.burst.saturating_sub(1);
        let arrival = self.limits.get(&from).map_or(now, |arrival| now.max(*arrival));
        let wait = (arrival - now).saturating_sub(tolerance);
        if !wait.is_zero() {
            return Some(wait);
        }
        self.limits.insert(from, arrival + emission);
        None
    }

    /// Carries out one `key=value` of `/control`; none if it makes no sense.
    pub fn control(&mut self, now: Instant, setting: &str) -> Option<()> {
        let (key, value) = setting.split_once('=')?;
        let millis = || value.parse().ok().map(Duration::from_millis);
        match key {
            "fault" => self.options.fault = Fault::parse(value)?,
            "hold" => self.held = flag(value)?,
            "latency_ms" => (self.options.latency_min, self.options.latency_max) = (millis()?, millis()?),
            "life_ms" => self.options.life = millis()?,
            "rate" => self.options.rate = value.parse().ok()?,
            "burst" => self.options.burst = value.parse().ok()?,
            "failure_rate" => self.options.failure_rate = value.parse().ok()?,
            "revoke_on_issue" => self.options.revoke_on_issue = flag(value)?,
            "reject_all" => self.options.reject_all = flag(value)?,
            "revoke" => self.revoke(now),
            _ => return None,
        }
        Some(())
    }
}

impl Fault {
    /// Reads `none`, `status:503`, `throttle`, `throttle:3`, `hang`, `truncated-body`, `life-zero` and so on.
    pub fn parse(text: &str) -> Option<Fault> {
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number.parse::<u64>().ok()?)),
            None => (text, None),
        };
        Some(match (name, number) {
            ("none", None) => Fault::None,
            ("status", Some(status)) => Fault::Status(u16::try_from(status).ok()?),
            ("throttle", retry_after) => Fault::Throttle { retry_after },
            ("hang", None) => Fault::Hang,
            ("truncated-body", None) => Fault::TruncatedBody,
            ("life-zero", None) => Fault::LifeZero,
            ("life-negative", None) => Fault::LifeNegative,
            ("life-huge", None) => Fault::LifeHuge,
            ("empty-token", None) => Fault::EmptyToken,
            ("garbage", None) => Fault::Garbage,
            _ => return None,
        })
    }
}

impl Stats {
    pub fn to_json(&self) -> String {
        let issued_at = self.issued_at.iter().rev().take(100).rev().map(u64::to_string).collect::<Vec<_>>().join(",");
        let counts = [
            ("asked", self.asked),
            ("issued", self.issued),
            ("refused", self.refused),
            ("failed", self.failed),
            ("in_flight", self.in_flight),
            ("max_in_flight", self.max_in_flight),
            ("verified", self.verified),
            ("rejected", self.rejected),
        ];
        let counts = counts.map(|(name, count)| format!(r#""{name}":{count}"#)).join(",");
        format!(r#"{{{counts},"issued_at":[{issued_at}]}}"#)
    }
}

fn flag(value: &str) -> Option<bool> {
    match value {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

fn random() -> u64 {
    // The tokens are toys: a system without random bytes gets predictable ones.
    getrandom::u64().unwrap_or(0)
}

/// A number from 0 to 1, 1 excluded.
pub fn random_share() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}
