//! What a program costs that lives for one token: a script of cron, a CGI, a request of PHP. Alone in its process, so that threads can be
//! counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use testbed::{Script, redis_server::RedisServer, threads_named};
use token_manager::{Execution, TokenManager};

const HOUR: Duration = Duration::from_secs(3600);

/// Stands before Redis and writes down what a client sends until it is answered.
fn listen(redis: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (port, turns) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let heard = turns.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            heard.lock().unwrap().push("connect".into());
            let heard = heard.clone();
            thread::spawn(move || turn_by_turn(client, redis, &heard));
        }
    });
    (port, turns)
}

fn turn_by_turn(mut client: TcpStream, redis: u16, heard: &Mutex<Vec<String>>) {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).unwrap();
    let mut bytes = [0; 65_536];
    while let Ok(read @ 1..) = client.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..read]).to_uppercase();
        let known = ["AUTH", "SELECT", "EVALSHA", "EVAL\r", "EXISTS", "SUBSCRIBE", "PING"];
        let sent: Vec<&str> = known.into_iter().filter(|verb| text.contains(&format!("\r\n{verb}"))).collect();
        heard.lock().unwrap().push(sent.join(" ").trim().to_owned());
        server.write_all(&bytes[..read]).unwrap();
        // What was sent together is answered together.
        for _ in 0..sent.len() {
            let read = server.read(&mut bytes).unwrap();
            client.write_all(&bytes[..read]).unwrap();
            if bytes[..read].windows(2).filter(|end| end == b"\r\n").count() >= sent.len() {
                break;
            }
        }
    }
}

#[test]
fn a_program_that_lives_for_one_token_makes_two_round_trips_and_a_third_to_log_in_and_starts_no_thread() {
    let redis = RedisServer::start().unwrap();
    let script = Script::new(HOUR);
    let manager = |url: &str, execution| {
        let builder = TokenManager::builder("t").redis(url).unwrap().execution(execution);
        builder.source(script.source()).build().unwrap()
    };
    assert_eq!(manager(&redis.url(), Execution::Inline).get().unwrap().secret(), "token-1");
    redis.command(&["CONFIG", "SET", "requirepass", "word"]);
    let (port, turns) = listen(redis.port());
    let turns = || std::mem::take(&mut *turns.lock().unwrap());

    let short = manager(&format!("redis://:word@127.0.0.1:{port}/0"), Execution::Inline);
    assert_eq!(turns().len(), 0, "nothing is sent that nobody asked for");
    assert_eq!(short.get().unwrap().secret(), "token-1");
    assert_eq!(turns(), ["connect", "AUTH", "EVALSHA"]);
    assert_eq!(threads_named("tkm-"), 0);
    short.get().unwrap();
    drop(short);
    assert_eq!((turns().len(), script.fetches()), (0, 1));

    // With a thread for its flight it is the same, and that thread ends; the pool's ends with the manager.
    let short = manager(&format!("redis://:word@127.0.0.1:{port}/0"), Execution::Background);
    assert_eq!(short.get().unwrap().secret(), "token-1");
    assert!(short.quiesce(testbed::LONG));
    assert_eq!(
        (turns(), threads_named("tkm-flight"), threads_named("tkm-pool")),
        (vec!["connect".into(), "AUTH".into(), "EVALSHA".into()], 0, 1)
    );
    drop(short);
    testbed::wait_until("the pool's thread has ended", || threads_named("tkm-") == 0);
    assert_eq!(script.fetches(), 1);
}
