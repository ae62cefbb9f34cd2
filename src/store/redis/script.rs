//! The Lua scripts, one a verb, each behind what all of them share.

use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value, cmd};

/// A Lua script and the digest by which Redis knows it.
pub struct Script {
    text: &'static str,
    digest: redis::Script,
}

impl Script {
    fn new(text: &'static str) -> Script {
        Script { text, digest: redis::Script::new(text) }
    }

    /// Has Redis run the script by its digest, or by its text where Redis does not know it yet.
    pub fn evaluate(
        &self,
        keys: &[&str],
        args: &[&[u8]],
        mut query: impl FnMut(&Cmd) -> RedisResult<Value>,
    ) -> RedisResult<Value> {
        let mut ask = |verb: &str, script: &str| query(cmd(verb).arg(script).arg(keys.len()).arg(keys).arg(args));
        let answer = ask("EVALSHA", self.digest.get_hash());
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
            return ask("EVAL", self.text);
        }
        answer
    }
}

/// One script a verb. Made with the store, not at first use: a fork must not meet them half made.
pub struct Scripts {
    pub claim: Script,
    pub read: Script,
    pub renew: Script,
    pub presence: Script,
    pub commit: Script,
    pub record_failure: Script,
    pub invalidate: Script,
    pub offer: Script,
    pub lift_pause: Script,
    pub inspect: Script,
    pub append_log: Script,
    pub read_log: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("../lua/prelude.lua"), include_str!($file)))
    };
}

impl Scripts {
    pub fn new() -> Scripts {
        Scripts {
            claim: script!("../lua/claim.lua"),
            read: script!("../lua/read.lua"),
            renew: script!("../lua/renew.lua"),
            presence: script!("../lua/presence.lua"),
            commit: script!("../lua/commit.lua"),
            record_failure: script!("../lua/record_failure.lua"),
            invalidate: script!("../lua/invalidate.lua"),
            offer: script!("../lua/offer.lua"),
            lift_pause: script!("../lua/lift_pause.lua"),
            inspect: script!("../lua/inspect.lua"),
            append_log: script!("../lua/append_log.lua"),
            read_log: script!("../lua/read_log.lua"),
        }
    }
}
