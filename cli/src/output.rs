//! How a token is written: the conventions of the programs that ask for one, each as its documentation has it.

use crate::failure::{self, Failure};
use crate::held::Held;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns when a token is out of use, in seconds since 1970.
fn end(held: &Held) -> i64 {
    let end = SystemTime::now() + held.expires_in;
    end.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Writes seconds since 1970 as RFC 3339 has them.
pub fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// Returns whether whoever wants this output takes the standard error for a part of it.
pub fn is_alone(output: Option<&str>) -> bool {
    output == Some("google")
}

/// Writes a token for `tkm get` and for files; git and docker, who ask in turn, have files of their own.
pub fn write(held: &Held, output: &str, name: &str, variable: &str) -> Result<String, Failure> {
    let secret = &held.secret;
    let line = match output {
        "text" => secret.clone(),
        "json" => json!({
            "name": name,
            "token": secret,
            "generation": held.generation,
            "expires_in": held.expires_in.as_secs(),
            "expires_at": date(end(held)),
            "stale": held.is_stale,
        })
        .to_string(),
        "header" => format!("Authorization: Bearer {secret}"),
        "env" => format!("export {variable}={}", quoted(secret)),
        "exec-credential" => exec_credential(held).to_string(),
        "aws" => aws(held)?.to_string(),
        "bazel" => json!({
            "headers": { "Authorization": [format!("Bearer {secret}")] },
            "expires": date(end(held)),
        })
        .to_string(),
        "google" => google(held).to_string(),
        _ => return Err(Failure::usage(format!("{output} is an output of tkm get alone"))),
    };
    Ok(line + "\n")
}

/// Quotes a text for a shell (POSIX, Shell Command Language, 2.2.2).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What kubectl and client-go want of a credential plugin (Kubernetes documentation, "Authenticating", client-go credential plugins;
/// client.authentication.k8s.io/v1). They say in `KUBERNETES_EXEC_INFO` which version they speak.
fn exec_credential(held: &Held) -> Value {
    let asked = env::var("KUBERNETES_EXEC_INFO").ok().and_then(|info| serde_json::from_str::<Value>(&info).ok());
    let version = asked.as_ref().and_then(|asked| asked.get("apiVersion")?.as_str());
    let version = version.filter(|version| version.starts_with("client.authentication.k8s.io/"));
    json!({
        "apiVersion": version.unwrap_or("client.authentication.k8s.io/v1"),
        "kind": "ExecCredential",
        "status": { "token": held.secret, "expirationTimestamp": date(end(held)) },
    })
}

/// What AWS SDKs want of a `credential_process` (AWS SDKs and Tools Reference Guide, "Process credential provider"): the token itself is
/// the JSON of a set of credentials, as `aws sts` prints it, with or without `Credentials` around it.
fn aws(held: &Held) -> Result<Value, Failure> {
    let wrong = || {
        let what = "the token is no JSON with AccessKeyId and SecretAccessKey, which --output aws needs";
        Failure::new(failure::CONFIG, what)
    };
    let given: Value = serde_json::from_str(&held.secret).map_err(|_| wrong())?;
    let given = given.get("Credentials").unwrap_or(&given);
    let text = |field: &str| given.get(field).and_then(Value::as_str);
    let (key, secret) = text("AccessKeyId").zip(text("SecretAccessKey")).ok_or_else(wrong)?;
    let mut credentials = json!({
        "Version": 1,
        "AccessKeyId": key,
        "SecretAccessKey": secret,
        "Expiration": date(end(held)),
    });
    if let Some(session) = text("SessionToken") {
        credentials["SessionToken"] = session.into();
    }
    Ok(credentials)
}

/// What Google's libraries want of an executable (google.aip.dev/auth/4117, "External Account Credentials", executable-sourced). They
/// say in a variable which kind of token they expect.
fn google(held: &Held) -> Value {
    let kind = env::var("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE").unwrap_or("urn:ietf:params:oauth:token-type:jwt".into());
    let field = if kind.ends_with(":saml2") { "saml_response" } else { "id_token" };
    json!({ "version": 1, "success": true, "token_type": kind, field: held.secret, "expiration_time": end(held) })
}

/// How Google's libraries want to be told of a failure: on standard output, by a program that ends with 0. They do not read what one
/// says that ends otherwise, and some of them read the standard error along with it.
pub fn google_failure(failure: &Failure) -> String {
    let (code, message) = (failure.exit.to_string(), &failure.message);
    json!({ "version": 1, "success": false, "code": code, "message": message }).to_string() + "\n"
}

/// Returns until when a token is good, for git.
pub fn git_expiry(held: &Held) -> i64 {
    end(held)
}
