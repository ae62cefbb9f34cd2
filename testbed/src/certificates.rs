//! Certificates for servers and clients of tests, made anew for each, and a Redis that speaks TLS with them.

use crate::redis_server::{RedisServer, free_port};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A CA, in a folder of its own that ends with it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

/// The files of a certificate and its key.
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), &pem).expect("a file");
        Authority { issuer: Issuer::new(params, key), pem, folder }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Issues a certificate for these hosts, written as files of this name.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(name, hosts, 4096)
    }

    /// As [`issue`](Authority::issue), expired since this year.
    pub fn issue_until(&self, name: &str, hosts: &[&str], year: i32) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |suffix: &str, text: String| {
            let path = self.folder.path().join(format!("{name}.{suffix}"));
            fs::write(&path, text).expect("a file");
            path
        };
        Identity { certificate: file("pem", certificate.pem()), key: file("key", key.serialize_pem()) }
    }

    /// Starts a Redis that speaks TLS at the returned port with this certificate, and asks for one of this CA if `mutual`.
    pub fn start_redis(&self, identity: &Identity, mutual: bool, args: &[&str]) -> (RedisServer, u16) {
        for _ in 0..5 {
            let port = free_port().expect("a port");
            let (number, ca) = (port.to_string(), self.file());
            let tls = [
                ("--tls-port", number.as_str()),
                ("--tls-cert-file", text(&identity.certificate)),
                ("--tls-key-file", text(&identity.key)),
                ("--tls-ca-cert-file", text(&ca)),
                ("--tls-auth-clients", if mutual { "yes" } else { "no" }),
            ];
            let all: Vec<&str> =
                tls.iter().flat_map(|(option, value)| [*option, *value]).chain(args.iter().copied()).collect();
            if let Ok(server) = RedisServer::start_with(&all) {
                return (server, port);
            }
        }
        panic!("no Redis with TLS: does this redis-server speak it?");
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
