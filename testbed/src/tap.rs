//! A TCP proxy that counts what passes between one program and its Redis: connections, commands and round trips.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub connections: usize,
    /// The names of the commands, in upper case.
    pub commands: Vec<String>,
    /// How often somebody waited for an answer: the making of each connection, and each time that bytes went out after an answer.
    pub round_trips: usize,
}

#[derive(Default)]
struct Line {
    sent: Vec<u8>,
    round_trips: usize,
    awaits_answer: bool,
}

/// A listening tap; its threads end with the connections, and with the process.
pub struct Tap {
    port: u16,
    lines: Arc<Mutex<Vec<Arc<Mutex<Line>>>>>,
}

impl Tap {
    /// Listens on a free port and leads to this one.
    pub fn to(target: u16) -> Tap {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let tap = Tap { port, lines: Arc::default() };
        let lines = tap.lines.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::<Mutex<Line>>::default();
                lines.lock().expect("no panic").push(line.clone());
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).expect("a Redis");
                let (up, down) = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                let asked = line.clone();
                thread::spawn(move || {
                    pump(up, server, |bytes| {
                        let mut line = asked.lock().expect("no panic");
                        line.sent.extend_from_slice(bytes);
                        line.round_trips += usize::from(!line.awaits_answer);
                        line.awaits_answer = true;
                    })
                });
                thread::spawn(move || pump(down, client, |_| line.lock().expect("no panic").awaits_answer = false));
            }
        });
        tap
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what has passed since the last time.
    ///
    /// # Panics
    /// If what was sent is no array of commands.
    pub fn take(&self) -> Passed {
        let lines = std::mem::take(&mut *self.lines.lock().expect("no panic"));
        let mut passed = Passed { connections: lines.len(), round_trips: lines.len(), ..Passed::default() };
        for line in lines {
            let line = line.lock().expect("no panic");
            passed.round_trips += line.round_trips;
            passed.commands.extend(commands(&line.sent));
        }
        passed
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, note: impl Fn(&[u8])) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        // Noted first: what the bytes bring about comes later.
        note(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // either may be closed already
}

/// Returns the first word of each command.
fn commands(sent: &[u8]) -> Vec<String> {
    let (mut at, mut names) = (0, Vec::new());
    while at < sent.len() {
        for word in 0..number(sent, &mut at, b'*') {
            let length = number(sent, &mut at, b'$');
            if word == 0 {
                names.push(String::from_utf8_lossy(&sent[at..at + length]).to_uppercase());
            }
            at += length + 2;
        }
    }
    names
}

/// Reads a line of this mark and a number.
fn number(sent: &[u8], at: &mut usize, mark: u8) -> usize {
    assert_eq!(sent[*at], mark, "no command begins or goes on here");
    let length = sent[*at..].iter().position(|byte| *byte == b'\r').expect("a whole line");
    let digits = std::str::from_utf8(&sent[*at + 1..*at + length]).expect("digits");
    *at += length + 2;
    digits.parse().expect("a number")
}
