//! A vendor's books behind a server: what it is asked, and a time of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use testbed::stand_in::{Heard, StandIn, Told};

/// One request.
#[derive(Debug)]
pub struct Asked {
    pub heard: Heard,
    pub path: String,
    pub query: BTreeMap<String, String>,
}

/// One answer.
pub enum Reply {
    Told(Told),
    /// The line is closed without one.
    Lost,
    /// Nothing comes until the server is stopped.
    Mute,
}

/// What a vendor keeps; `now` is its own time.
pub trait Books: Send + 'static {
    fn answer(&mut self, asked: &Asked, now: Instant) -> Reply;
}

pub struct Vendor<B> {
    server: StandIn,
    state: Arc<Mutex<State<B>>>,
    stopping: Arc<(Mutex<bool>, Condvar)>,
}

struct State<B> {
    books: B,
    ahead: Duration,
}

impl<B: Books> Vendor<B> {
    pub fn start(books: B) -> Vendor<B> {
        let state = Arc::new(Mutex::new(State { books, ahead: Duration::ZERO }));
        let stopping: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (shared, stop) = (state.clone(), stopping.clone());
        let server = StandIn::start(move |heard| {
            let (path, query) = heard.path.split_once('?').unwrap_or((&heard.path, ""));
            let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            let asked = Asked { heard: heard.clone(), path: path.to_owned(), query };
            let reply = {
                let State { books, ahead } = &mut *shared.lock().unwrap();
                books.answer(&asked, Instant::now() + *ahead)
            };
            match reply {
                Reply::Told(told) => Some(told),
                Reply::Lost => None,
                Reply::Mute => {
                    drop(stop.1.wait_while(stop.0.lock().unwrap(), |stopping| !*stopping));
                    None
                }
            }
        });
        Vendor { server, state, stopping }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut B) -> T) -> T {
        look(&mut self.state.lock().unwrap().books)
    }

    /// Lets so much time pass for the vendor.
    pub fn advance(&self, time: Duration) {
        self.state.lock().unwrap().ahead += time;
    }
}

impl<B> Drop for Vendor<B> {
    fn drop(&mut self) {
        *self.stopping.0.lock().unwrap() = true;
        self.stopping.1.notify_all();
    }
}

/// Returns an address at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
