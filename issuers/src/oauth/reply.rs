//! What a token endpoint says (RFC 6749 §5): a token with its life, or an error of which only a registered code is shown.

use crate::failure::Failure;
use crate::http::Answer;
use crate::life;
use std::time::Duration;

/// The error codes that may be shown: those of the IANA registry "OAuth Extensions Error" and of RFC 6749, RFC 8628, RFC 8707 and
/// RFC 9449 that a token endpoint can send. Any other text may hold anything.
const CODES: [&str; 19] = [
    "access_denied",
    "authorization_pending",
    "consent_required",
    "expired_token",
    "interaction_required",
    "invalid_authorization_details",
    "invalid_client",
    "invalid_dpop_proof",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "login_required",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "use_dpop_nonce",
];

/// What an issuer granted.
pub(crate) struct Tokens {
    pub(crate) access: String,
    pub(crate) life: Duration,
    pub(crate) refresh: Option<String>,
}

/// What became of a request that was answered.
pub(crate) enum Reply {
    Granted(Tokens),
    /// The issuer does not know this client, or its proof is wrong.
    ClientRefused(Failure),
    /// The refresh token, assertion or subject is not good, or no longer (`invalid_grant`).
    GrantRefused(Failure),
    /// The issuer said why.
    Failed(Failure),
    /// Nothing but the status tells that it failed: the issuer itself, or what is in front of it.
    FailedBy(u16, Failure),
}

impl Reply {
    /// Reads an answer. A token without a usable life lives as long as `default_life` says.
    pub(crate) fn read(answer: &Answer, default_life: Duration) -> Reply {
        let json = answer.json().unwrap_or_default();
        let code = json["error"].as_str();
        if let Some(code) = code {
            return Reply::refused(code, answer);
        }
        if let Some(failure) = answer.failure() {
            return if answer.status == 401 {
                Reply::ClientRefused(failure)
            } else {
                Reply::FailedBy(answer.status, failure)
            };
        }
        // It may have granted something: nobody can use that now, and a refresh token may be consumed.
        let unusable =
            |what: &str| Reply::Failed(Failure::unknown(format!("the issuer answered {}: {what}", answer.status)));
        let Some(access) = json["access_token"].as_str().filter(|token| !token.is_empty()) else {
            return unusable("there is no access_token in it");
        };
        match json["token_type"].as_str() {
            None => {}
            Some(kind) if kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("n_a") => {}
            Some(_) => return unusable("its token_type is not Bearer, and more than the token is needed to use it"),
        }
        // Some issuers write 0 or -1 where they mean "no end".
        let stated = life::seconds(&json["expires_in"]).filter(|life| *life >= Duration::from_millis(1));
        let life = stated.unwrap_or_else(|| {
            log::debug!("the issuer states no usable expires_in: the token lives for {default_life:?}");
            default_life
        });
        let refresh = json["refresh_token"].as_str().filter(|token| !token.is_empty());
        Reply::Granted(Tokens { access: access.to_owned(), life, refresh: refresh.map(str::to_owned) })
    }

    /// Reads an error code (RFC 6749 §5.2). The issuer itself said it: nothing was granted, whatever the status.
    fn refused(code: &str, answer: &Answer) -> Reply {
        let shown = CODES.iter().find(|known| **known == code).copied();
        let said = format!("the issuer answered {}: {}", answer.status, shown.unwrap_or("an error of its own"));
        let with = |failure: fn(String) -> Failure| failure(said.clone()).retry_after(answer.retry_after);
        if answer.status == 429 {
            return Reply::Failed(with(Failure::throttled));
        }
        match code {
            "invalid_client" => Reply::ClientRefused(with(Failure::rejected)),
            "invalid_grant" => Reply::GrantRefused(with(Failure::rejected)),
            "slow_down" => Reply::Failed(with(Failure::throttled)),
            "temporarily_unavailable" | "server_error" | "authorization_pending" => {
                Reply::Failed(with(Failure::unavailable))
            }
            _ if shown.is_some() => Reply::Failed(with(Failure::rejected)),
            _ => match answer.failure() {
                Some(failure) if answer.status == 401 => {
                    Reply::ClientRefused(Failure { cause: said.into(), ..failure })
                }
                Some(failure) => Reply::FailedBy(answer.status, Failure { cause: said.into(), ..failure }),
                None => Reply::Failed(with(Failure::rejected)),
            },
        }
    }
}
