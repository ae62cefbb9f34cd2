//! A private trio of Redis Sentinels over a primary and two replicas: real servers on free loopback ports, ended with their
//! owner. Servers and sentinels can be killed and stopped, and a failover be ordered.

use crate::redis_server::{RedisServer, ask, free_port, signal};
use rustix::process::Signal;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the sentinels call the primary.
pub const MASTER: &str = "tokens";
const READY_LIMIT: Duration = Duration::from_secs(60);

/// One sentinel; dropping it ends it.
pub struct Sentinel {
    child: Child,
    port: u16,
    tls_port: u16,
    login: String,
    _folder: TempDir,
}

/// The three sentinels and what they watch.
pub struct Sentinels {
    pub servers: Vec<RedisServer>,
    /// The ports at which the sentinels and replicas reach the servers.
    ports: Vec<u16>,
    pub sentinels: Vec<Sentinel>,
    login: String,
}

impl Sentinels {
    /// Starts six servers and waits until each knows all others.
    pub fn start() -> Result<Sentinels, String> {
        Sentinels::start_with(&[], "", "")
    }

    /// As [`start`](Sentinels::start), with more arguments for each Redis, a password of the sentinels, and more lines for their
    /// files, in which `TLS_PORT` becomes a free one; an empty password is none.
    pub fn start_with(args: &[&str], password: &str, lines: &str) -> Result<Sentinels, String> {
        let args: Vec<&str> = ["--repl-diskless-sync-delay", "0"].iter().chain(args).copied().collect();
        let servers = (0..3).map(|_| RedisServer::start_with(&args)).collect::<Result<Vec<_>, _>>()?;
        let ports = servers.iter().map(RedisServer::port).collect();
        Sentinels::over(servers, ports, password, lines)
    }

    /// Starts sentinels over these servers, of which the first is to be the primary, and which are reached at these ports.
    pub fn over(servers: Vec<RedisServer>, ports: Vec<u16>, password: &str, lines: &str) -> Result<Sentinels, String> {
        let port = ports[0].to_string();
        for replica in &servers[1..] {
            replica.try_command(&["REPLICAOF", "127.0.0.1", &port])?;
        }
        let login = if password.is_empty() { String::new() } else { format!(":{password}@") };
        let watched = format!(
            "sentinel monitor {MASTER} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {MASTER} 500\n\
             sentinel failover-timeout {MASTER} 3000\n{lines}\n"
        );
        let secret = if password.is_empty() {
            String::new()
        } else {
            format!("requirepass {password}\nsentinel sentinel-pass {password}\n")
        };
        let sentinel = || Sentinel::start(&format!("{watched}{secret}"), &login);
        let sentinels = (0..3).map(|_| sentinel()).collect::<Result<Vec<_>, _>>()?;
        let trio = Sentinels { servers, ports, sentinels, login };
        trio.wait_until_ready(2)?;
        Ok(trio)
    }

    /// Waits until a failover can succeed: all sentinels know each other and so many replicas that follow the primary.
    pub fn wait_until_ready(&self, replicas: usize) -> Result<(), String> {
        let deadline = Instant::now() + READY_LIMIT;
        let online = || {
            let primary = &self.servers[self.primary()];
            primary
                .try_command(&["INFO", "replication"])
                .is_ok_and(|text| text.matches("state=online").count() >= replicas)
        };
        let knows = |sentinel: &Sentinel| {
            let master = sentinel.ask(&["SENTINEL", "MASTER", MASTER]).unwrap_or_default();
            let lines: Vec<&str> = master.lines().collect();
            let number =
                |name: &str| lines.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse().ok());
            number("num-slaves") >= Some(replicas)
                && number("num-other-sentinels") == Some(self.sentinels.len() - 1)
                && sentinel.ask(&["SENTINEL", "CKQUORUM", MASTER]).is_ok()
        };
        while !(self.sentinels.iter().all(knows) && online()) {
            if Instant::now() > deadline {
                return Err("the sentinels did not get ready".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The URL of a store that these sentinels lead to.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port)).collect();
        let password = self.login.trim_matches([':', '@']);
        let login = if password.is_empty() { String::new() } else { format!("?sentinel_password={password}") };
        format!("redis+sentinel://{}/{MASTER}{login}", hosts.join(","))
    }

    /// Which of the servers the first living sentinel names as the primary.
    pub fn primary(&self) -> usize {
        let name = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let answer = self.sentinels.iter().find_map(|sentinel| sentinel.ask(&name).ok()).expect("a living sentinel");
        let port: u16 = answer.lines().nth(1).and_then(|port| port.parse().ok()).expect("an address");
        self.ports.iter().position(|other| *other == port).expect("one of the servers")
    }

    /// Has another server become the primary while all are well.
    pub fn failover(&self) {
        // On a busy machine a replica may just have been too silent to be chosen.
        let deadline = Instant::now() + READY_LIMIT;
        while let Err(error) = self.sentinels[0].ask(&["SENTINEL", "FAILOVER", MASTER]) {
            assert!(error.starts_with("NOGOODSLAVE") && Instant::now() < deadline, "no failover: {error}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Sentinel {
    /// Starts one with these lines in its file; `login` is how it is logged in at, as in `:password@`.
    pub fn start(lines: &str, login: &str) -> Result<Sentinel, String> {
        let folder = tempfile::Builder::new().prefix("token-manager-sentinel-").tempdir();
        let folder = folder.map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let (port, tls_port) = (free_port()?, free_port()?);
        let lines = lines.replace("TLS_PORT", &tls_port.to_string());
        let (file, at) = (folder.path().join("sentinel.conf"), folder.path().display());
        let text = format!("port {port}\nbind 127.0.0.1\ndir {at}\nlogfile {at}/log\n{lines}");
        fs::write(&file, text).map_err(|error| format!("no sentinel's file: {error}"))?;
        let mut command = Command::new(RedisServer::find().ok_or("no redis-server")?);
        command.arg(file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("cannot start a sentinel: {error}"))?;
        let sentinel = Sentinel { child, port, tls_port, login: login.into(), _folder: folder };
        let deadline = Instant::now() + READY_LIMIT;
        while sentinel.ask(&["PING"]).is_err() {
            if Instant::now() > deadline {
                return Err(format!("a sentinel does not answer on port {port}"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(sentinel)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for which `TLS_PORT` stands in its file.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Asks it anything.
    pub fn ask(&self, command: &[&str]) -> Result<String, String> {
        ask(&format!("redis://{}127.0.0.1:{}/", self.login, self.port), command)
    }

    /// Stops it in its tracks: it still accepts connections and never answers.
    pub fn pause(&self) {
        signal(&self.child, Signal::STOP);
    }

    pub fn resume(&self) {
        signal(&self.child, Signal::CONT);
    }

    pub fn kill(&mut self) {
        // Both fail only if it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}
