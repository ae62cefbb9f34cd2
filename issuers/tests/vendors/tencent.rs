//! Stand-ins for WeChat and WeCom. Their rules are those of the published pages: developers.weixin.qq.com "getAccessToken",
//! "getStableAccessToken", "access_token 使用说明", "接口调用频次限制说明", "getTicket"; developer.work.weixin.qq.com "获取access_token",
//! "访问频率限制", "全局错误码".

use crate::standin::{Asked, Books, Reply};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use testbed::stand_in::Told;

pub const LIFE: Duration = Duration::from_secs(7200);
/// For so long the old token is taken beside the new one, and so long before its end a stable token is replaced.
pub const OVERLAP: Duration = Duration::from_secs(300);

/// The account, and what was issued to it.
pub struct Tencent {
    pub id: String,
    pub secret: String,
    /// How many requests for a classic token it takes before it answers 45009.
    pub quota: u32,
    /// The code that it answers to everything.
    pub always: Option<i64>,
    /// How many of the next answers are lost once the token has been issued.
    pub lost: u32,
    /// Whether it takes requests and never answers.
    pub mute: bool,
    pub asked: BTreeMap<String, u32>,
    pub issued: u32,
    /// The tokens, each with its end; and those that getAccessToken and getStableAccessToken gave last, which are apart.
    ends: BTreeMap<String, Instant>,
    last: BTreeMap<&'static str, String>,
    forced: Option<Instant>,
}

impl Tencent {
    pub fn new() -> Tencent {
        let (asked, ends, last) = Default::default();
        let (id, secret) = ("wx01".to_owned(), "hunter2&?".to_owned());
        Tencent {
            id,
            secret,
            quota: 2_000,
            always: None,
            lost: 0,
            mute: false,
            asked,
            issued: 0,
            ends,
            last,
            forced: None,
        }
    }

    pub fn asked_for(&self, path: &str) -> u32 {
        self.asked.get(path).copied().unwrap_or(0)
    }

    /// Ends a token before its time, as WeCom says it may.
    pub fn end(&mut self, token: &str) {
        self.ends.remove(token);
    }

    fn issue(&mut self, what: &'static str, now: Instant) -> Value {
        self.issued += 1;
        let token = format!("{what}-{}", self.issued);
        self.ends.insert(token.clone(), now + LIFE);
        // Both are taken for five minutes.
        if let Some(end) = self.last.insert(what, token.clone()).and_then(|last| self.ends.get_mut(&last)) {
            *end = (*end).min(now + OVERLAP);
        }
        json!({ "access_token": token, "expires_in": LIFE.as_secs() })
    }

    fn same_or_new(&mut self, what: &'static str, overlap: Duration, now: Instant) -> Value {
        let last = self.last.get(what).cloned();
        match last.and_then(|last| self.ends.get(&last).map(|end| (last.clone(), end.saturating_duration_since(now)))) {
            Some((last, left)) if left > overlap => json!({ "access_token": last, "expires_in": left.as_secs() }),
            _ => self.issue(what, now),
        }
    }

    fn stable(&mut self, asked: &Asked, now: Instant) -> Value {
        if asked.heard.method != "POST" {
            return error(43002);
        }
        let Ok(body) = serde_json::from_str::<Value>(&asked.heard.body) else { return error(47001) };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match self.refuses(&text("grant_type"), &text("appid"), &text("secret")) {
            Some(code) => error(code),
            // Not twice within thirty seconds, or it is no more than the normal mode.
            None if body["force_refresh"] == true
                && self.forced.is_none_or(|last| now - last >= Duration::from_secs(30)) =>
            {
                self.forced = Some(now);
                if let Some(last) = self.last.remove("stable") {
                    self.ends.remove(&last);
                }
                self.issue("stable", now)
            }
            None => self.same_or_new("stable", OVERLAP, now),
        }
    }

    fn refuses(&self, grant: &str, id: &str, secret: &str) -> Option<i64> {
        match () {
            () if grant != "client_credential" => Some(40002),
            () if id != self.id => Some(40013),
            () if secret != self.secret => Some(40125),
            () => None,
        }
    }

    fn takes(&self, token: &str, now: Instant) -> Result<(), i64> {
        match self.ends.get(token) {
            Some(end) if *end > now => Ok(()),
            Some(_) => Err(42001),
            None => Err(40001),
        }
    }
}

fn error(code: i64) -> Value {
    json!({ "errcode": code, "errmsg": "hunter2 in a message" })
}

impl Books for Tencent {
    fn answer(&mut self, asked: &Asked, now: Instant) -> Reply {
        if self.mute {
            return Reply::Mute;
        }
        let count = self.asked.entry(asked.path.clone()).or_default();
        *count += 1;
        let (count, query) = (*count, |name: &str| asked.query.get(name).map_or("", String::as_str));
        let said = match (self.always, asked.path.as_str()) {
            (Some(code), _) => error(code),
            (None, "/cgi-bin/token") => match self.refuses(query("grant_type"), query("appid"), query("secret")) {
                _ if count > self.quota => error(45009),
                Some(code) => error(code),
                None => self.issue("classic", now),
            },
            (None, "/cgi-bin/stable_token") => self.stable(asked, now),
            (None, "/cgi-bin/gettoken") => match () {
                () if query("corpid") != self.id => error(40013),
                () if query("corpsecret") != self.secret => error(40001),
                () => {
                    let mut told = self.same_or_new("wecom", Duration::ZERO, now);
                    told["errcode"] = 0.into();
                    told["errmsg"] = "ok".into();
                    told
                }
            },
            (None, "/cgi-bin/ticket/getticket") => match self.takes(query("access_token"), now) {
                Err(code) => error(code),
                Ok(()) => {
                    let ticket = format!("{} of {}", query("type"), query("access_token"));
                    json!({ "errcode": 0, "errmsg": "ok", "ticket": ticket, "expires_in": LIFE.as_secs() })
                }
            },
            (None, "/cgi-bin/get_api_domain_ip") => match self.takes(query("access_token"), now) {
                Err(code) => error(code),
                Ok(()) => json!({ "ip_list": [] }),
            },
            (None, _) => return Reply::Told(Told::new(404, "")),
        };
        if self.lost > 0 {
            self.lost -= 1;
            return Reply::Lost;
        }
        Reply::Told(Told::new(200, said.to_string()))
    }
}
