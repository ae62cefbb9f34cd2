//! A manager from a file of settings, in C.

use crate::toolchain::{Build, Link, compile, run};
use std::fs;
use std::process::Command;
use testbed::redis_server::RedisServer;

#[test]
fn a_c_program_needs_no_more_than_a_file_of_settings() {
    let (redis, folder) = (RedisServer::start().expect("a Redis"), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("tkm.toml");
    let source = "[tokens.api.source.command]\nrun = [\"printf\", \"secret\"]\nplain_text = true\nlife = \"1h\"\n";
    fs::write(&path, format!("[stores.main]\nurl = \"{}\"\n{source}", redis.url())).expect("a file");
    for (build, link) in [(Build::Debug, Link::Shared), (Build::Release, Link::Static)] {
        let shown = run(Command::new(compile("config.c", build, link, &[])).arg(&path).arg("api"));
        let refused = format!("refused {}: there is no token \"nobody\"; this file has api\n", path.display());
        assert_eq!(shown, refused + "token secret\n");
    }
    assert_eq!(redis.command(&["HGET", "tm:{api}:api:token", "value"]), "secret");
}
