//! The issuer: a real HTTP server on loopback that hands out short-lived tokens, and does it as slowly, as rarely or as
//! wrongly as it is told. It keeps no connection for clients that do not ask it to, and knows nothing of Redis.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, io::Write};
use tiny_http::{Header, Request, Response, Server};

mod books;
use books::{Books, random_share};
pub use books::{Fault, Options, Stats};

const WORKERS: usize = 4;

struct Shared {
    books: Mutex<Books>,
    changed: Condvar,
}

/// A running issuer; dropping it closes the port and ends its threads.
pub struct Issuer {
    shared: Arc<Shared>,
    server: Option<Arc<Server>>,
    address: SocketAddr,
    host: Option<JoinHandle<()>>,
}

/// What goes back to the client.
enum Answer {
    Json(u16, String),
    Throttled(Option<u64>),
    Half(String),
    Nothing,
}

impl Issuer {
    pub fn start(addr: impl ToSocketAddrs, options: Options) -> io::Result<Issuer> {
        let server = Arc::new(Server::http(addr).map_err(io::Error::other)?);
        let address = server.server_addr().to_ip().ok_or_else(|| io::Error::other("no IP address"))?;
        let shared = Arc::new(Shared { books: Mutex::new(Books::new(options)), changed: Condvar::new() });
        let host = {
            let (server, shared) = (server.clone(), shared.clone());
            thread::Builder::new().name("issuer".into()).spawn(move || serve(&server, &shared))?
        };
        Ok(Issuer { shared, server: Some(server), address, host: Some(host) })
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn stats(&self) -> Stats {
        self.shared.books.lock().stats.clone()
    }

    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        self.shared.change(|books| change(&mut books.options));
    }

    /// Holds every `/token` request, before a token is issued, until `release`.
    pub fn hold(&self) {
        self.shared.change(|books| books.held = true);
    }

    pub fn release(&self) {
        self.shared.change(|books| books.held = false);
    }

    /// Makes every token issued so far invalid.
    pub fn revoke(&self) {
        self.shared.change(|books| books.revoke(Instant::now()));
    }

    pub fn is_valid(&self, secret: &str) -> bool {
        self.shared.books.lock().invalid_for(Instant::now(), secret) == Some(Duration::ZERO)
    }

    /// Waits until the stats satisfy the condition; false if they did not in time.
    pub fn wait_for(&self, condition: impl Fn(&Stats) -> bool, timeout: Duration) -> bool {
        let mut books = self.shared.books.lock();
        self.shared.changed.wait_while_for(&mut books, |books| !condition(&books.stats), timeout);
        condition(&books.stats)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.change(|books| books.stopping = true);
        if let Some(server) = self.server.take() {
            (0..WORKERS).for_each(|_| server.unblock());
            if let Some(host) = self.host.take() {
                let _ = host.join();
            }
        }
        // The listening thread is the server's own; only a refused connection tells that the port is closed.
        let deadline = Instant::now() + Duration::from_secs(1);
        while TcpStream::connect(self.address).is_ok() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends when every worker was unblocked and every request answered.
fn serve(server: &Server, shared: &Shared) {
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Ok(request) = server.recv() {
                    // A slow or hanging /token must not hold up anybody else.
                    if path(&request).0 == "/token" {
                        scope.spawn(move || shared.token(request));
                    } else {
                        shared.other(request);
                    }
                }
            });
        }
    });
}

fn path(request: &Request) -> (&str, &str) {
    request.url().split_once('?').unwrap_or((request.url(), ""))
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Books)) {
        change(&mut self.books.lock());
        self.changed.notify_all();
    }

    fn token(&self, request: Request) {
        let from = request.remote_addr().map(SocketAddr::ip);
        let mut books = self.books.lock();
        books.stats.asked += 1;
        books.stats.in_flight += 1;
        books.stats.max_in_flight = books.stats.max_in_flight.max(books.stats.in_flight);
        self.changed.notify_all();
        let answer = match books.limited(Instant::now(), from) {
            Some(wait) => {
                let seconds = books.options.retry_after.then(|| wait.as_secs_f64().ceil() as u64);
                Answer::Throttled(seconds)
            }
            None => self.work(&mut books),
        };
        match answer {
            Answer::Throttled(_) => books.stats.refused += 1,
            Answer::Json(200, _) | Answer::Half(_) => {}
            Answer::Json(..) | Answer::Nothing => books.stats.failed += 1,
        }
        // Before the client can read the answer and ask again, or the count would show a flight too many.
        books.stats.in_flight -= 1;
        drop(books);
        self.changed.notify_all();
        send(request, answer);
    }

    fn work(&self, books: &mut MutexGuard<'_, Books>) -> Answer {
        let (min, max) = (books.options.latency_min, books.options.latency_max);
        let done = Instant::now() + min + max.saturating_sub(min).mul_f64(random_share());
        while !books.stopping && !self.changed.wait_until(books, done).timed_out() {}
        self.changed.wait_while(books, |books| books.held && !books.stopping);
        if books.options.fault == Fault::Hang {
            self.changed.wait_while(books, |books| !books.stopping);
        }
        if books.stopping {
            return Answer::Nothing;
        }
        let now = Instant::now();
        let life = books.options.life;
        let seconds = life.as_secs();
        let good = format!(r#""expires_in":{seconds},"expires_in_ms":{}"#, life.as_millis());
        match books.options.fault.clone() {
            Fault::None if random_share() < books.options.failure_rate => error(500, "server_error"),
            Fault::Status(status @ (400 | 401)) => error(status, "invalid_client"),
            Fault::Status(status) => error(status, "server_error"),
            Fault::Throttle { retry_after } => Answer::Throttled(retry_after),
            Fault::Garbage => {
                books.stats.failed += 1;
                Answer::Json(200, "<html>Welcome!</html>".into())
            }
            Fault::TruncatedBody => Answer::Half(books.issue(now, life, &good)),
            Fault::LifeZero => Answer::Json(200, books.issue(now, Duration::ZERO, r#""expires_in":0"#)),
            Fault::LifeNegative => Answer::Json(200, books.issue(now, life, r#""expires_in":-1"#)),
            Fault::LifeHuge => Answer::Json(200, books.issue(now, life, &format!(r#""expires_in":{}"#, i64::MAX))),
            Fault::EmptyToken => {
                books.stats.failed += 1;
                Answer::Json(200, format!(r#"{{"access_token":"","token_type":"Bearer",{good}}}"#))
            }
            Fault::None | Fault::Hang => Answer::Json(200, books.issue(now, life, &good)),
        }
    }

    fn other(&self, request: Request) {
        let answer = match path(&request) {
            ("/verify", _) => self.verify(&request),
            ("/stats", _) => Answer::Json(200, self.books.lock().stats.to_json()),
            ("/control", query) if self.books.lock().options.control => self.control(query),
            _ => error(404, "not_found"),
        };
        send(request, answer);
    }

    fn verify(&self, request: &Request) -> Answer {
        let header = request.headers().iter().find(|header| header.field.equiv("Authorization"));
        let secret = header.and_then(|header| header.value.as_str().strip_prefix("Bearer ")).unwrap_or("");
        let mut books = self.books.lock();
        let invalid_for = match books.options.reject_all {
            true => None,
            false => books.invalid_for(Instant::now(), secret),
        };
        let answer = match invalid_for {
            Some(Duration::ZERO) => {
                books.stats.verified += 1;
                Answer::Json(200, r#"{"active":true}"#.into())
            }
            known => {
                books.stats.rejected += 1;
                let since = known.map_or("null".into(), |since| since.as_micros().to_string());
                Answer::Json(401, format!(r#"{{"error":"invalid_token","invalid_for_us":{since}}}"#))
            }
        };
        drop(books);
        self.changed.notify_all();
        answer
    }

    fn control(&self, query: &str) -> Answer {
        let now = Instant::now();
        let mut books = self.books.lock();
        let settings = query.split('&').filter(|setting| !setting.is_empty());
        let wrong = settings.filter(|setting| books.control(now, setting).is_none()).collect::<Vec<_>>().join(" ");
        drop(books);
        self.changed.notify_all();
        match wrong.is_empty() {
            true => Answer::Json(200, r#"{"ok":true}"#.into()),
            false => error(400, "unknown_setting"),
        }
    }
}

fn error(status: u16, error: &str) -> Answer {
    Answer::Json(status, format!(r#"{{"error":"{error}"}}"#))
}

/// Sends the answer; a client that is gone by now is not the issuer's trouble.
fn send(request: Request, answer: Answer) {
    let (status, body, retry_after) = match answer {
        Answer::Json(status, body) => (status, body, None),
        Answer::Throttled(retry_after) => (429, r#"{"error":"slow_down"}"#.into(), retry_after),
        // The writer ends without an answer; a dropped request would be answered with 500.
        Answer::Nothing => return drop(request.into_writer()),
        Answer::Half(body) => {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            let mut writer = request.into_writer();
            let _ = write!(writer, "{head}Connection: close\r\n\r\n{}", &body[..body.len() / 2]);
            let _ = writer.flush();
            return;
        }
    };
    let mut headers = vec![("Content-Type", "application/json".to_string()), ("Cache-Control", "no-store".to_string())];
    headers.extend(retry_after.map(|seconds| ("Retry-After", seconds.to_string())));
    let response = Response::from_string(body).with_status_code(status);
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, value.as_str()).ok());
    let _ = request.respond(headers.fold(response, Response::with_header));
}
