//! Whatever comes from outside - a Redis that answers anything, an issuer that answers anything, any URL, any name - the
//! answer is a value or an error, within the store's own limits, and never a panic.
//!
//! `PROOFS_SEED` repeats a run; `PROOFS_CASES` is how many inputs each test is given.

use proofs::{Chance, number};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use token_manager::store::{Claim, Failure, Grant, Lease, Secret, TokenName};
use token_manager::{Attempt, Budget, FailureClass, Fetched, RedisStore, Store, TokenManager};

/// How long one exchange may take: connecting, sending and answering, twice, and the pool, on a busy machine.
const LIMIT: Duration = Duration::from_secs(5);

fn settings() -> (u64, u64) {
    let (seed, cases) = (number("PROOFS_SEED", 1), number("PROOFS_CASES", 2_000));
    println!("PROOFS_SEED={seed} PROOFS_CASES={cases}");
    (seed, cases)
}

/// A server on loopback that answers each connection as told, for as long as the test runs.
fn serve(answer: impl Fn(TcpStream, u64) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let answer = Arc::new(answer);
        for (number, stream) in (0..).zip(listener.incoming()) {
            let (stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || answer(stream, number));
        }
    });
    port
}

/// Answers everything that is asked with something else each time, and now and then hangs up.
fn babble(mut stream: TcpStream, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut asked = [0; 16 * 1024];
    while let Ok(length) = stream.read(&mut asked) {
        // A subscription is confirmed most of the time, and then talked to without being asked.
        let subscribes = asked[..length].windows(9).any(|word| word.eq_ignore_ascii_case(b"SUBSCRIBE"));
        let answer = if subscribes && !chance.one_in(4) {
            let events = (0..chance.below(4)).flat_map(|_| [message(&mut chance), reply(&mut chance, 3)].concat());
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n".iter().copied().chain(events.collect::<Vec<_>>()).collect()
        } else {
            reply(&mut chance, 3)
        };
        let cut = if chance.one_in(10) { chance.below(answer.len() as u64 + 1) as usize } else { answer.len() };
        if length == 0 || stream.write_all(&answer[..cut]).is_err() || cut < answer.len() {
            return;
        }
    }
}

/// Makes a reply: of the protocol mostly, shaped like a script's reply often, and bytes without any sense now and then.
fn reply(chance: &mut Chance, depth: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "token",
        "granted",
        "busy",
        "paused",
        "limited",
        "written",
        "superseded",
        "invalid",
        "lost",
        "message",
        "subscribe",
        "committed 7",
        "failed throttled",
        "18446744073709551616",
        "-1",
        "",
    ];
    let int = |chance: &mut Chance| chance.of(&[0, 1, -1, 7, i64::MAX, i64::MIN, 1 << 53]);
    let count = chance.below(13);
    match chance.below(if depth == 0 { 8 } else { 20 }) {
        0 => (0..chance.below(64)).map(|_| chance.draw() as u8).collect(),
        1 => b"$-1\r\n".to_vec(),
        2 => format!("-{} no\r\n", chance.of(&["ERR", "NOSCRIPT", "READONLY", "OOM", "NOPERM", "", "\u{fffd}"]))
            .into_bytes(),
        3 => format!(":{}\r\n", int(chance)).into_bytes(),
        4 => format!("+{}\r\n", chance.of(&WORDS)).into_bytes(),
        5 => format!("${}\r\n", int(chance)).into_bytes(),
        6 => format!("*{}\r\n", int(chance)).into_bytes(),
        7 | 8 => {
            let bytes: Vec<u8> = (0..chance.below(32)).map(|_| chance.draw() as u8).collect();
            [format!("${}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
        }
        9 => {
            let kind = chance.of(&['*', '%', '~', '>', '|']);
            let items: Vec<u8> = (0..count).flat_map(|_| reply(chance, depth - 1)).collect();
            [format!("{kind}{count}\r\n").as_bytes(), &items].concat()
        }
        10..14 => scripted(chance),
        // Like a script's or a subscription's: a word and then words and numbers.
        _ => {
            let mut words = format!("*{count}\r\n");
            for _ in 0..count {
                let word = chance.of(&WORDS);
                words += &match chance.below(4) {
                    0 => format!(":{}\r\n", int(chance)),
                    1 => "$-1\r\n".into(),
                    _ => bulk(word),
                };
            }
            words.into_bytes()
        }
    }
}

/// Makes a script's own reply, or that with one word changed.
fn scripted(chance: &mut Chance) -> Vec<u8> {
    const REPLIES: [&str; 9] = [
        "token 7 value 1000 2000 1",
        "granted 7 carry",
        "busy 900",
        "paused 900 throttled",
        "written 1",
        "superseded 8 value 1000 2000 0",
        "invalid",
        "lost",
        "7 1000 7:o:1 900 7 0 0 0 throttled 1 1 5000",
    ];
    let mut words: Vec<&str> = chance.of(&REPLIES).split(' ').collect();
    if chance.one_in(2) {
        let at = chance.below(words.len() as u64) as usize;
        words[at] = chance.of(&["", "-1", "18446744073709551615", "99999999999999999999", "x", "\u{fffd}"]);
    }
    let words = words.iter().map(|word| match word.parse::<i64>() {
        Ok(number) if chance.one_in(2) => format!(":{number}\r\n"),
        _ => bulk(word),
    });
    let words: Vec<String> = words.collect();
    format!("*{}\r\n{}", words.len(), words.concat()).into_bytes()
}

/// Makes an event of a subscription.
fn message(chance: &mut Chance) -> Vec<u8> {
    let event = chance.of(&["committed 7", "invalidated -1", "doubted", "failed throttled", "failed \u{fffd}", ""]);
    format!("*3\r\n{}{}{}", bulk("message"), bulk("c"), bulk(event)).into_bytes()
}

fn bulk(word: &str) -> String {
    format!("${}\r\n{word}\r\n", word.len())
}

/// Runs one exchange and returns whether it brought a value; it must come back in time either way.
fn timed<T, E: std::fmt::Display>(what: &str, exchange: impl FnOnce() -> Result<T, E>) -> bool {
    let started = Instant::now();
    let result = exchange();
    assert!(started.elapsed() < LIMIT, "{what} took {:?}", started.elapsed());
    result.map_err(|error| assert!(!error.to_string().is_empty())).is_ok()
}

#[test]
fn whatever_redis_answers_is_a_value_or_an_error() {
    let (seed, cases) = settings();
    let port = serve(move |stream, number| babble(stream, seed.wrapping_mul(1 << 32) + number));
    let options = RedisStore::options(&format!("redis://127.0.0.1:{port}/"));
    let store = options.io_timeout(Duration::from_millis(20)).open().unwrap();
    let name = TokenName { namespace: "n".into(), group: "g".into(), name: "t".into(), grant: "t".into() };
    let lease = Lease { owner: "o".into(), attempt: 1, generation: 7 };
    let claim = Claim {
        owner: "o",
        attempt: 1,
        newer_than: 0,
        lease: Duration::from_secs(3),
        budget: Some(Budget::default()),
        egress: "e",
    };
    let life = Duration::from_secs(60);
    let grant = Grant { value: Secret::new("v"), left: life, life, age: None, carry: None, carry_lifetime: None };
    let failure = Failure { class: FailureClass::Throttled, retry_after: None, egress: "e" };
    let mut chance = Chance::new(seed);
    let mut values = [0; 7];
    let mut exchanges = 0;
    // A verb that chance has not yet given a sound reply goes on until it has had one.
    while exchanges < cases || (values.contains(&0) && exchanges < 50 * cases) {
        let unlucky = values.iter().position(|count| *count == 0).filter(|_| exchanges >= cases);
        let verb = unlucky.unwrap_or(chance.below(7) as usize);
        exchanges += 1;
        let heard = match verb {
            0 => timed("claim", || store.claim(&name, &claim)),
            1 => timed("renew", || store.renew(&name, &lease, life)),
            2 => timed("commit", || store.commit(&name, &lease, &grant)),
            3 => timed("record_failure", || store.record_failure(&name, &lease, &failure)),
            4 => timed("invalidate", || store.invalidate(&name, 7)),
            5 => timed("inspect", || store.inspect(&name, "e")),
            _ => timed("subscribe", || {
                let mut listener = store.subscribe(&name)?;
                (0..5).try_for_each(|_| listener.wait(Duration::from_millis(2)).map(drop))?;
                listener.check()
            }),
        };
        values[verb] += u64::from(heard);
    }
    println!("{exchanges} exchanges; values of claim, renew, commit, fail, invalidate, inspect, listen: {values:?}");
    assert!(values.iter().all(|count| *count > 0), "some verb never got past its errors: {values:?}");
}

#[test]
fn whatever_redis_answers_a_caller_has_its_answer_in_time() {
    let (seed, cases) = settings();
    let port = serve(move |stream, number| babble(stream, seed.wrapping_mul(1 << 32) + number));
    let options = RedisStore::options(&format!("redis://127.0.0.1:{port}/"));
    let store = options.io_timeout(Duration::from_millis(20)).open().unwrap();
    let mut tokens = 0;
    for _ in 0..cases.div_ceil(10) {
        let source = |_: &Attempt| Ok(Fetched::new("s", Duration::from_secs(60)));
        let manager = TokenManager::builder("t").store(store.clone()).source(source).build().unwrap();
        tokens += u64::from(timed("get", || {
            manager.get_within(Duration::from_millis(100)).map(drop).map_err(|error| {
                let said = format!("{error:?}");
                assert!(!said.contains("panicked"), "{said}");
                said
            })
        }));
    }
    println!("{} callers, {tokens} of them with a token", cases.div_ceil(10));
    assert!(tokens > 0);
}

#[test]
fn whatever_the_issuer_answers_is_a_token_or_an_error() {
    let (seed, cases) = settings();
    let port = serve(move |mut stream, number| {
        let mut chance = Chance::new(seed.wrapping_mul(1 << 32) + number);
        let mut asked = [0; 4096];
        let _ = stream.read(&mut asked).and_then(|_| stream.write_all(&http(&mut chance)));
    });
    let (agent, url) = (testbed::client::agent(), format!("http://127.0.0.1:{port}"));
    let tokens = (0..cases)
        .filter(|_| timed("ask", || testbed::client::ask(&agent, &url, Duration::from_millis(200)).map_err(said)));
    let tokens = tokens.count();
    println!("{cases} answers, {tokens} of them tokens");
    assert!(tokens > 0 && (tokens as u64) < cases);
}

fn said(error: token_manager::FetchError) -> String {
    format!("{error:?}")
}

/// Makes an issuer's answer, broken in any place or in none.
fn http(chance: &mut Chance) -> Vec<u8> {
    let status = chance.of(&["200 OK", "200 OK", "200 OK", "429 No", "500 No", "302 No", "099 No", "abc", ""]);
    let life =
        chance.of(&["60", "0", "-1", "1e400", "9223372036854775807", "18446744073709551616", "\"60\"", "null", "[]"]);
    let secret = chance.of(&["\"secret\"", "\"\"", "1", "null", "\"\\ud800\"", "\"\\u0000\"", "{"]);
    let field = chance.of(&["expires_in", "expires_in_ms", "expires"]);
    let mut body = format!("{{\"access_token\":{secret},\"{field}\":{life}}}").into_bytes();
    if chance.one_in(4) {
        let at = chance.below(body.len() as u64) as usize;
        body[at] = chance.draw() as u8;
    }
    let length = if chance.one_in(8) { chance.draw() >> chance.below(64) } else { body.len() as u64 };
    let after = chance.of(&["", "Retry-After: 7\r\n", "Retry-After: -1\r\n", "Retry-After: 99999999999999999999\r\n"]);
    let mut answer = format!("HTTP/1.1 {status}\r\n{after}Content-Length: {length}\r\n\r\n").into_bytes();
    answer.extend(body);
    if chance.one_in(8) {
        let at = chance.below(answer.len() as u64) as usize;
        answer[at] = chance.draw() as u8;
    }
    answer
}

/// Makes a text that resembles what is expected and is not, often.
fn text(chance: &mut Chance) -> String {
    const PARTS: [&str; 20] = [
        "redis://",
        "rediss://",
        "unix://",
        "redis+unix:///",
        "valkey://",
        "127.0.0.1",
        "[::1]",
        ":6379",
        ":99999",
        "/0",
        "/x",
        "@",
        ":",
        "user",
        "pass%zz",
        "?protocol=resp3",
        "#insecure",
        "{",
        " ",
        "\u{0}",
    ];
    (0..chance.below(8)).fold(String::new(), |mut text, _| {
        match chance.below(4) {
            0 => text.extend(char::from_u32(chance.below(0x11_0000) as u32)),
            _ => text += chance.of(&PARTS),
        }
        text
    })
}

#[test]
fn whatever_url_is_given_opens_a_store_or_is_refused() {
    let (seed, cases) = settings();
    let mut chance = Chance::new(seed);
    let opened = (0..cases * 10).filter(|_| timed("open", || RedisStore::open(&text(&mut chance)))).count();
    println!("{} URLs, {opened} of them opened", cases * 10);
    assert!(opened > 0 && (opened as u64) < cases * 10);
}

#[test]
fn whatever_name_is_given_builds_a_manager_or_is_refused() {
    let (seed, cases) = settings();
    let mut chance = Chance::new(seed);
    let store = token_manager::MemoryStore::new();
    let mut words = [0; 2];
    for _ in 0..cases {
        let [name, namespace, group, egress] = [(); 4].map(|()| text(&mut chance));
        let manager = TokenManager::builder(&name).namespace(&namespace).group(&group).egress(&egress);
        let manager = manager.store(store.clone()).source(|_: &Attempt| Ok(Fetched::new("s", Duration::from_secs(60))));
        let span = Duration::from_nanos(chance.draw() >> chance.below(64));
        let built = manager.lease(span).deadline(span).fetch_limit(span).build();
        words[usize::from(built.is_ok())] += 1;
    }
    println!("{cases} settings, {} of them built", words[1]);
    assert!(words[0] > 0);
}
