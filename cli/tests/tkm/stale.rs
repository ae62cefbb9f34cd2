//! A token that is served past its end says so.

use crate::support::{Bench, Mood, wait_until};
use serde_json::Value;
use std::process::{Child, Stdio};

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_token_that_an_agent_serves_past_its_end_is_marked() {
    let mut bench = Bench::new(3);
    bench.settings("[agent]\nsocket = \"agent.sock\"", "serve_stale = \"1h\"\ndeadline = \"300ms\"");
    let _agent = Ended(bench.tkm(&["agent"]).stderr(Stdio::null()).spawn().expect("tkm"));
    wait_until("the agent listens", || bench.path("agent.sock").exists());
    let told = |bench: &Bench| -> Value {
        let ran = bench.run(&["get", "api", "--output", "json"]);
        serde_json::from_str(&ran.stdout).unwrap_or_default()
    };
    wait_until("there is a token", || told(&bench)["stale"] == false);
    bench.issuer.set_mood(Mood::Breaks);
    bench.redis.kill();
    wait_until("it is served past its end", || told(&bench)["stale"] == true);
    let told = told(&bench);
    assert_eq!(told["expires_in"], 0);
    assert!(told["token"].as_str().is_some_and(|token| token.starts_with("tkm-secret-")));
}
