//! A TCP proxy between the library and Redis that does to the bytes what networks do: delays them, swallows them, cuts the
//! line when a certain answer passes, and leads new connections elsewhere.

use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What happens to the bytes from now on, on old and new connections.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Pass,
    /// Requests pass at once, answers so much later.
    Late(Duration),
    /// Connections are accepted, what is sent is taken, and nothing ever comes back.
    Mute,
    /// Connections are accepted and closed.
    Shut,
}

struct Shared {
    line: Mutex<Line>,
    target: Mutex<u16>,
    /// The answer that cuts the line instead of passing, and how often it still does.
    cut: Mutex<Option<(Vec<u8>, u32)>>,
    open: Mutex<Vec<TcpStream>>,
    /// When connections came.
    arrivals: Mutex<Vec<Instant>>,
    cuts: AtomicU64,
    ended: AtomicBool,
}

/// A running proxy; dropping it ends its threads.
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
}

impl Proxy {
    /// Listens on a free port and leads to this one.
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            line: Mutex::new(Line::Pass),
            target: Mutex::new(target),
            cut: Mutex::new(None),
            open: Mutex::default(),
            arrivals: Mutex::default(),
            cuts: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let serving = shared.clone();
        thread::spawn(move || serve(&listener, &serving));
        Proxy { shared, port }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn set(&self, line: Line) {
        *self.shared.line.lock() = line;
    }

    /// Cuts the line, so many times, when an answer passes that has these bytes: the request was carried out.
    pub fn cut_at(&self, answer: &str, times: u32) {
        *self.shared.cut.lock() = Some((answer.as_bytes().to_vec(), times));
    }

    /// How often the line was cut at an answer.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// How many connections came.
    pub fn accepted(&self) -> u64 {
        self.arrivals().len() as u64
    }

    /// When each of them came.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.arrivals.lock().clone()
    }

    /// Leads new connections to another port; those that stand stay.
    pub fn lead_to(&self, target: u16) {
        *self.shared.target.lock() = target;
    }

    /// Cuts every connection that stands.
    pub fn cut_all(&self) {
        for stream in self.shared.open.lock().drain(..) {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended by itself
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut_all();
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))); // wakes the listener
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().map_while(Result::ok) {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        shared.arrivals.lock().push(Instant::now());
        if *shared.line.lock() == Line::Shut {
            continue;
        }
        let target = *shared.target.lock();
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (Ok(to_server), Ok(to_client), Ok(kept)) = (server.try_clone(), client.try_clone(), client.try_clone())
        else {
            continue;
        };
        shared.open.lock().push(kept);
        let (up, down) = (shared.clone(), shared.clone());
        thread::spawn(move || pump(client, to_server, |_| up.request_fate()));
        thread::spawn(move || pump(server, to_client, |bytes| down.answer_fate(bytes)));
    }
}

/// What becomes of some bytes.
enum Fate {
    Pass,
    Swallow,
    Cut,
}

impl Shared {
    fn request_fate(&self) -> Fate {
        if *self.line.lock() == Line::Mute { Fate::Swallow } else { Fate::Pass }
    }

    fn answer_fate(&self, bytes: &[u8]) -> Fate {
        if self.cuts_at(bytes) {
            return Fate::Cut;
        }
        let line = self.line.lock().clone();
        match line {
            Line::Mute => return Fate::Swallow,
            Line::Late(pause) => thread::sleep(pause),
            Line::Pass | Line::Shut => {}
        }
        Fate::Pass
    }

    fn cuts_at(&self, bytes: &[u8]) -> bool {
        let mut cut = self.cut.lock();
        let Some((answer, times)) = &mut *cut else { return false };
        if *times == 0 || !bytes.windows(answer.len()).any(|window| window == answer) {
            return false;
        }
        *times -= 1;
        self.cuts.fetch_add(1, Ordering::SeqCst);
        true
    }
}

/// Carries bytes one way until either end closes.
fn pump(mut from: TcpStream, mut to: TcpStream, fate: impl Fn(&[u8]) -> Fate) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let stays_open = match fate(&bytes[..count]) {
            Fate::Pass => to.write_all(&bytes[..count]).is_ok(),
            Fate::Swallow => true,
            Fate::Cut => false,
        };
        if !stays_open {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)); // either may be closed already
}
