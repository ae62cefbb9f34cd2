//! As much of HTTP/1.1 (RFC 9112) as one request a connection takes. Whatever comes is a request or an error, within limits.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// More than this is no request of ours: its head, and its body.
const MOST_HEAD: usize = 8 << 10;
const MOST_BODY: usize = 64 << 10;
/// More than this no agent answers.
pub const MOST_ANSWER: usize = 8 << 20;
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// A request.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub method: String,
    /// The parts of the path, decoded.
    pub path: Vec<String>,
    query: Vec<(String, String)>,
    pub accepts_json: bool,
    pub body: String,
}

impl Request {
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Reads a request from a stream whose reads are limited to a part of a second each.
///
/// # Errors
/// With the status to answer with.
pub fn read(stream: &mut impl Read) -> Result<Request, u16> {
    let until = Instant::now() + ARRIVAL;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        if bytes.len() > MOST_HEAD {
            return Err(431);
        }
        more(stream, &mut bytes, until)?;
    };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|_| 400u16)?.to_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(400);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(505);
    }
    let (mut length, mut accepts_json) = (0, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(|_| 400u16)?,
            "transfer-encoding" => return Err(501),
            "accept" => accepts_json = value.contains("application/json"),
            _ => {}
        }
    }
    if length > MOST_BODY {
        return Err(413);
    }
    while bytes.len() < head + length {
        more(stream, &mut bytes, until)?;
    }
    let body = String::from_utf8(bytes[head..head + length].to_vec()).map_err(|_| 400u16)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decoded = |text: &str| decode(text).ok_or(400u16);
    let path = path.trim_start_matches('/').split('/').map(decoded).collect::<Result<_, _>>()?;
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(key, value)| Ok((decoded(key)?, decoded(value)?))).collect::<Result<_, u16>>()?;
    Ok(Request { method: method.to_owned(), path, query, accepts_json, body })
}

fn more(stream: &mut impl Read, bytes: &mut Vec<u8>, until: Instant) -> Result<(), u16> {
    let mut part = [0; 4096];
    loop {
        if Instant::now() > until {
            return Err(408);
        }
        match stream.read(&mut part) {
            Ok(0) => return Err(400),
            Ok(read) => {
                bytes.extend_from_slice(&part[..read]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return Err(400),
        }
    }
}

impl Answer {
    pub fn new(status: u16, kind: &'static str, body: String) -> Answer {
        Answer { status, kind, headers: Vec::new(), body }
    }

    pub fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let Answer { status, kind, headers, body } = self;
        let mut text = format!("HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\n", reason(*status));
        for (name, value) in headers {
            let _ = write!(text, "{name}: {value}\r\n"); // writing to a text cannot fail
        }
        let _ = write!(
            text,
            "Content-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Writes a name as a part of a path (RFC 3986 §2.1).
pub fn encode(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = std::str::from_utf8(&[*high, *low]).ok().map(str::to_owned)?;
                bytes.push(u8::from_str_radix(&digits, 16).ok()?);
                tail
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use crate::agent::http::{Request, decode, encode, read};

    fn parse(text: &str) -> Result<Request, u16> {
        read(&mut text.as_bytes())
    }

    #[test]
    fn a_request_is_read_with_its_path_decoded() {
        let request =
            parse("GET /token/a%20b%2Fc?output=json HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n").expect("a request");
        assert_eq!((&*request.method, &request.path[..]), ("GET", &["token".to_owned(), "a b/c".to_owned()][..]));
        assert_eq!((request.query("output"), request.accepts_json), (Some("json"), false));
        let request = parse("POST /invalidate/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcdef").expect("a request");
        assert_eq!(request.body, "abc");
        assert_eq!(decode(&encode("a b/%é{}")).as_deref(), Some("a b/%é{}"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (text, status) in [
            ("", 400),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/2\r\n\r\n", 505),
            ("GET /%zz HTTP/1.1\r\n\r\n", 400),
            ("GET /%e HTTP/1.1\r\n\r\n", 400),
            ("GET /a HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            ("GET /a HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413),
            ("GET /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", 400),
            ("GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        ] {
            assert_eq!(parse(text), Err(status), "{text:?}");
        }
        assert_eq!(parse(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000))), Err(431));
    }
}
