//! Keys and certificates for tests, made by `openssl` in a folder that ends with its owner: those that can be used, and those that
//! must be refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// `rsa.pem` and `ec.pem` (PKCS#8), `rsa-pkcs1.pem`, `ec-sec1.pem`, `encrypted.pem`, `p384.pem`; `ca.pem`; `server.pem` for 127.0.0.1
/// and localhost; `client.pem` and, of X.509 version 1, `client-v1.pem`, both with `client.key`.
pub struct Keys(TempDir);

impl Keys {
    pub fn make() -> Keys {
        let keys = Keys(tempfile::tempdir().expect("a folder"));
        keys.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem");
        keys.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem");
        keys.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem");
        keys.openssl("pkey -in rsa.pem -traditional -out rsa-pkcs1.pem");
        keys.openssl("pkey -in ec.pem -traditional -out ec-sec1.pem");
        keys.openssl("pkcs8 -topk8 -in ec.pem -passout pass:word -out encrypted.pem");
        keys.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2");
        let server = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        keys.certify("server", server);
        keys.certify("client", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n");
        keys.openssl("x509 -req -in client.csr -CA ca.pem -CAkey ca.key -out client-v1.pem -days 2");
        keys
    }

    fn certify(&self, name: &str, extensions: &str) {
        self.openssl(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"));
        self.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
        fs::write(self.path("ext"), extensions).expect("a file");
        let sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -extfile ext -out {name}.pem -days 2");
        self.openssl(&sign);
    }

    fn openssl(&self, args: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(args.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("openssl is missing: run `sudo apt-get install openssl`");
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect(name)
    }
}
