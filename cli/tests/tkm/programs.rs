//! The examples, each with the real program.

use crate::support::{Bench, LONG, program, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use token_manager_config::fingerprint;

/// A program that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // In order, so that its own children end too.
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        for _ in 0..200 {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that answers every request and remembers the `Authorization` of each.
struct Echo {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    fn start() -> Echo {
        let server = tiny_http::Server::http("127.0.0.1:0").expect("a port");
        let port = server.server_addr().to_ip().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        std::thread::spawn(move || {
            for request in server.incoming_requests() {
                let header = request.headers().iter().find(|header| header.field.equiv("Authorization"));
                kept.lock().expect("a lock").push(header.map(|header| header.value.to_string()).unwrap_or_default());
                let _ = request.respond(tiny_http::Response::from_string("ok")); // the client may be gone
            }
        });
        Echo { port, seen }
    }

    fn last(&self) -> String {
        self.seen.lock().expect("a lock").last().cloned().unwrap_or_default()
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Asks for a page; the body, or nothing if nobody answers yet.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}

/// Writes an example into the bench's folder, with what is its own in place of what stands for it.
fn example(bench: &Bench, from: &str, to: &str, own: &[(&str, &str)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(from);
    let text = fs::read_to_string(path).expect("an example");
    let text = own.iter().fold(text, |text, (name, value)| text.replace(name, value));
    fs::write(bench.path(to), text).expect("a file");
}

/// Starts a program in the bench's folder, with `tkm` in its path.
fn start(bench: &Bench, mut command: Command) -> Running {
    let log = fs::File::options().create(true).append(true).open(bench.path("log")).expect("a file");
    command.current_dir(bench.folder.path()).env("TKM_CONFIG", bench.path("tkm.toml")).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log).env("PATH", path_with_tkm());
    Running(command.spawn().expect("it starts"))
}

fn path_with_tkm() -> std::ffi::OsString {
    let own = Path::new(env!("CARGO_BIN_EXE_tkm")).parent().expect("a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [own, "/usr/sbin".into()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(places).expect("a path")
}

fn php_fpm() -> Option<std::path::PathBuf> {
    let found = fs::read_dir("/usr/sbin").ok()?.flatten().map(|entry| entry.path());
    found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))).max()
}

#[test]
fn nginx_sends_a_fresh_header_and_php_reads_a_fresh_file_and_asks_the_socket() {
    let (bench, backend) = (Bench::new(3600), Echo::start());
    let (port, own_port) = (free_port().to_string(), backend.port.to_string());
    let folder = bench.folder.path().to_str().expect("text").to_owned();
    // Its workers are another user's: they may not look into a folder of root's.
    let user =
        if rustix::process::geteuid().is_root() { "user root;\nworker_processes 1;" } else { "worker_processes 1;" };
    let (redis, issuer) = (bench.redis.url(), bench.issuer.url());
    let own = [
        ("REDIS", &*redis),
        ("ISSUER", &issuer),
        ("FOLDER", &folder),
        ("PORT", &port),
        ("BACKEND", &own_port),
        ("worker_processes 1;", user),
    ];
    example(&bench, "nginx/tkm.toml", "tkm.toml", &own);
    example(&bench, "nginx/nginx.conf", "nginx.conf", &own);
    example(
        &bench,
        "php-fpm/pool.conf",
        "pool.conf",
        &[
            ("FOLDER", &folder),
            ("[www]", if user.starts_with("user") { "[www]\nuser = root\ngroup = root" } else { "[www]" }),
        ],
    );
    example(&bench, "php-fpm/token.php", "token.php", &[]);
    let _agent = start(&bench, bench.tkm(&["agent"]));
    wait_until("the files are there", || bench.path("api.conf").exists() && bench.path("api.token").exists());
    let mut nginx = Command::new(program("nginx"));
    nginx.args(["-p", &folder, "-c", "nginx.conf", "-g", "daemon off;"]);
    let _nginx = start(&bench, nginx);
    let mut php = Command::new(php_fpm().expect("php-fpm is not installed; ./test installs it"));
    php.args(["--allow-to-run-as-root", "--fpm-config"]).arg(bench.path("pool.conf"));
    let _php = start(&bench, php);

    let port: u16 = port.parse().expect("a number");
    wait_until("nginx answers", || get(port, "/").is_some());
    assert_eq!(backend.last(), "Bearer tkm-secret-1");
    let mark = fingerprint("tkm-secret-1");
    wait_until("php answers", || get(port, "/token.php").is_some());
    assert_eq!(get(port, "/token.php").expect("a page"), format!("{mark} {mark}"));
    bench.answer(&["rotate", "api"]);
    wait_until("nginx sends the new one", || get(port, "/").is_some() && backend.last() == "Bearer tkm-secret-2");
    let mark = fingerprint("tkm-secret-2");
    assert_eq!(get(port, "/token.php").expect("a page"), format!("{mark} {mark}"));
    assert_eq!(bench.issuer.log().len(), 2);
}

#[test]
fn gunicorn_reads_the_file_that_tkm_exec_keeps_fresh_and_ends_with_it() {
    let bench = Bench::new(3600);
    let port = free_port();
    example(&bench, "gunicorn/app.py", "app.py", &[]);
    let bind = format!("127.0.0.1:{port}");
    let gunicorn = program("gunicorn");
    let args = [
        "exec",
        "--file",
        "api",
        "--",
        gunicorn.to_str().expect("text"),
        "--bind",
        &bind,
        "--workers",
        "2",
        "app:application",
    ];
    let running = start(&bench, bench.tkm(&args));
    wait_until("gunicorn answers", || get(port, "/").is_some());
    assert_eq!(get(port, "/").expect("a page"), fingerprint("tkm-secret-1"));
    bench.answer(&["rotate", "api"]);
    let mark = fingerprint("tkm-secret-2");
    wait_until("it reads the new one", || get(port, "/").is_some_and(|page| page == mark));
    drop(running);
    wait_until("gunicorn has ended too", || TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// A server behind TLS, without which kubectl sends no token: it answers with the `Authorization` that it got.
const CLUSTER: &str = r#"
import http.server, json, ssl, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"got": self.headers.get("Authorization")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

#[test]
fn kubectl_asks_tkm_for_its_token() {
    let bench = Bench::new(3600);
    let port = free_port();
    let mut openssl = Command::new(program("openssl"));
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    openssl.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]);
    assert!(openssl.current_dir(bench.folder.path()).output().expect("openssl").status.success());
    let mut cluster = Command::new(program("python3"));
    cluster.args(["-c", CLUSTER, &port.to_string()]);
    let _cluster = start(&bench, cluster);
    wait_until("the cluster listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let authority = format!("https://127.0.0.1:{port}\n      certificate-authority: cert.pem");
    example(&bench, "kubernetes/kubeconfig.yaml", "kubeconfig", &[("SERVER", &authority)]);
    let kubectl = || {
        let mut command = Command::new(program("kubectl"));
        command.env("TKM_CONFIG", bench.path("tkm.toml")).env("PATH", path_with_tkm()).env("HOME", bench.folder.path());
        let output =
            command.arg("--kubeconfig").arg(bench.path("kubeconfig")).args(["get", "--raw", "/version"]).output();
        let output = output.expect("kubectl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(kubectl(), "{\"got\": \"Bearer tkm-secret-1\"}");
    bench.answer(&["rotate", "api"]);
    assert_eq!(kubectl(), "{\"got\": \"Bearer tkm-secret-2\"}");
}

#[test]
fn git_fetches_with_the_helper_of_the_example() {
    let (bench, server) = (Bench::new(3600), Challenging::start());
    let url = format!("http://127.0.0.1:{}", server.port);
    bench.settings("", &format!("hosts = \"{url}\""));
    example(&bench, "git/gitconfig", "gitconfig", &[("https://git.example.com", &url)]);
    let mut command = Command::new(program("git"));
    command.env("TKM_CONFIG", bench.path("tkm.toml")).env("PATH", path_with_tkm());
    command
        .env("GIT_CONFIG_GLOBAL", bench.path("gitconfig"))
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", bench.folder.path());
    let output = command.args(["ls-remote", &format!("{url}/repository")]).output().expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Base64 of x-access-token:tkm-secret-1.
    assert_eq!(server.last(), "Basic eC1hY2Nlc3MtdG9rZW46dGttLXNlY3JldC0x");
    assert!(String::from_utf8_lossy(&output.stdout).contains("refs/heads/main"));
}

/// A git server of the smart protocol that wants a password first (gitprotocol-http(5)).
struct Challenging(Echo);

impl std::ops::Deref for Challenging {
    type Target = Echo;

    fn deref(&self) -> &Echo {
        &self.0
    }
}

impl Challenging {
    fn start() -> Challenging {
        let server = tiny_http::Server::http("127.0.0.1:0").expect("a port");
        let port = server.server_addr().to_ip().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        std::thread::spawn(move || {
            let header = |text: &str| text.parse::<tiny_http::Header>().expect("a header");
            for request in server.incoming_requests() {
                let given = request.headers().iter().find(|header| header.field.equiv("Authorization"));
                let given = given.map(|header| header.value.to_string()).unwrap_or_default();
                kept.lock().expect("a lock").push(given.clone());
                let response = match given.is_empty() {
                    true => tiny_http::Response::from_string("")
                        .with_status_code(401)
                        .with_header(header("WWW-Authenticate: Basic realm=\"git\"")),
                    false => {
                        let commit = "0123456789abcdef0123456789abcdef01234567";
                        let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
                        let body = line("# service=git-upload-pack\n")
                            + "0000"
                            + &line(&format!("{commit} refs/heads/main\0agent=x\n"))
                            + "0000";
                        tiny_http::Response::from_string(body)
                            .with_header(header("Content-Type: application/x-git-upload-pack-advertisement"))
                    }
                };
                let _ = request.respond(response); // the client may be gone
            }
        });
        Challenging(Echo { port, seen })
    }
}
