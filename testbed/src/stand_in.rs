//! An HTTP server on loopback that answers as a closure says and keeps what it heard: it stands in for an issuer's odd moments.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tiny_http::{Header, Response, Server};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    /// With its query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    /// The value of the header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What goes back.
#[derive(Clone)]
pub struct Told {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    is_whole: bool,
}

impl Told {
    pub fn new(status: u16, body: impl Into<String>) -> Told {
        Told { status, headers: Vec::new(), body: body.into(), is_whole: true }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Told {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Announces more than it sends, and closes the line.
    pub fn half(mut self) -> Told {
        self.is_whole = false;
        self
    }
}

/// A running server; dropping it closes the port.
pub struct StandIn {
    server: Arc<Server>,
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    host: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Answers each request as told; `None` closes the line without a word.
    pub fn start(answer: impl Fn(&Heard) -> Option<Told> + Send + Sync + 'static) -> StandIn {
        let server = Arc::new(Server::http("127.0.0.1:0").expect("a free port"));
        let address = server.server_addr().to_ip().expect("an IP address");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let host = {
            let (server, heard, answer) = (server.clone(), heard.clone(), Arc::new(answer));
            thread::spawn(move || {
                for request in server.incoming_requests() {
                    let (heard, answer) = (heard.clone(), answer.clone());
                    thread::spawn(move || serve(request, &heard, &*answer));
                }
            })
        };
        StandIn { server, address, heard, host: Some(host) }
    }

    /// The base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was asked so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.unblock();
        let _ = self.host.take().map(JoinHandle::join);
    }
}

fn serve(mut request: tiny_http::Request, heard: &Mutex<Vec<Heard>>, answer: &(dyn Fn(&Heard) -> Option<Told> + Sync)) {
    let mut body = String::new();
    let _ = request.as_reader().read_to_string(&mut body);
    let headers = request.headers().iter().map(|header| (header.field.to_string(), header.value.to_string())).collect();
    let (method, path) = (request.method().to_string(), request.url().to_owned());
    let asked = Heard { method, path, headers, body };
    heard.lock().push(asked.clone());
    // The client may have gone: then nobody is told.
    match answer(&asked) {
        None => drop(request.into_writer()),
        Some(Told { status, headers, body, is_whole: true }) => {
            let response =
                headers.iter().fold(Response::from_string(body).with_status_code(status), |response, header| {
                    let header = Header::from_bytes(header.0.as_bytes(), header.1.as_bytes()).expect("a header");
                    response.with_header(header)
                });
            let _ = request.respond(response);
        }
        Some(Told { status, body, .. }) => {
            let mut line = request.into_writer();
            let length = body.len() + 1;
            let _ = write!(line, "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    }
}
