//! A server that answers as a vendor's pages say. Each stand-in brings its books; this listens, counts and keeps their time.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tiny_http::{Header, Request, Response, Server};

/// One request.
#[derive(Debug, Default)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// One answer.
pub enum Reply {
    Json(u16, String),
    With(u16, Vec<(&'static str, String)>, String),
    /// What comes is no HTTP.
    Broken,
    /// Nothing comes.
    Mute,
}

/// What a vendor keeps; `now` is its own time.
pub trait Books: Send + 'static {
    fn answer(&mut self, asked: &Asked, now: Instant) -> Reply;
}

pub struct Standin<B> {
    pub address: SocketAddr,
    state: Arc<Mutex<State<B>>>,
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

struct State<B> {
    books: B,
    ahead: Duration,
}

impl<B: Books> Standin<B> {
    pub fn start(books: B) -> Standin<B> {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a free port"));
        let address = server.server_addr().to_ip().expect("an address");
        let state = Arc::new(Mutex::new(State { books, ahead: Duration::ZERO }));
        let (listening, shared) = (server.clone(), state.clone());
        let thread = thread::spawn(move || {
            let mut unanswered = Vec::new();
            while let Ok(mut request) = listening.recv() {
                let asked = read(&mut request);
                let mut state = shared.lock().unwrap();
                let now = Instant::now() + state.ahead;
                let reply = state.books.answer(&asked, now);
                drop(state);
                unanswered.extend(send(request, reply));
            }
        });
        Standin { address, state, server, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut B) -> T) -> T {
        look(&mut self.state.lock().unwrap().books)
    }

    /// Lets so much time pass for the vendor.
    pub fn advance(&self, time: Duration) {
        self.state.lock().unwrap().ahead += time;
    }
}

impl<B> Drop for Standin<B> {
    fn drop(&mut self) {
        self.server.unblock();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the stand-in panicked");
    }
}

fn read(request: &mut Request) -> Asked {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let header = |header: &Header| (header.field.to_string().to_lowercase(), header.value.to_string());
    let (method, path) = (request.method().to_string(), path.to_owned());
    let headers = request.headers().iter().map(header).collect();
    let mut body = String::new();
    request.as_reader().read_to_string(&mut body).expect("a body");
    Asked { method, path, query, headers, body }
}

/// Returns a request that is not answered.
fn send(request: Request, reply: Reply) -> Option<Request> {
    let (status, headers, body) = match reply {
        Reply::Json(status, body) => (status, Vec::new(), body),
        Reply::With(status, headers, body) => (status, headers, body),
        Reply::Broken => {
            let mut writer = request.into_writer();
            // A client that is gone is not the vendor's trouble.
            let _ = writer.write_all(b"oh\r\n\r\n").and_then(|()| writer.flush());
            return None;
        }
        Reply::Mute => return Some(request),
    };
    let mut response = Response::from_string(body).with_status_code(status);
    for (name, value) in headers {
        response.add_header(Header::from_bytes(name, value).expect("a header"));
    }
    // A client that is gone is not the vendor's trouble.
    let _ = request.respond(response);
    None
}

/// Returns an address at which nobody listens.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    assert!(TcpStream::connect(address).is_err());
    format!("http://{address}")
}
