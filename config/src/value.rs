//! The values of settings: spans, portions, one or many texts, and secrets that are said to be elsewhere.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A span with its unit: `300ms`, `10s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    pub fn parse(text: &str) -> Option<Span> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let count: u64 = text[..digits].parse().ok()?;
        let seconds = |each: u64| count.checked_mul(each).map(Duration::from_secs);
        let span = match text[digits..].trim() {
            "ms" => Some(Duration::from_millis(count)),
            "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3600),
            "d" => seconds(86_400),
            _ => None,
        };
        span.map(Span)
    }
}

const SPAN: &str = "a span such as \"300ms\", \"10s\", \"5m\", \"2h\" or \"7d\"";

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        struct Spans;
        impl Visitor<'_> for Spans {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SPAN)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::custom(format!("expected {SPAN}")))
            }
        }
        from.deserialize_str(Spans)
    }
}

/// A span, or a share of a token's life such as `0.2`.
#[derive(Clone, Copy, Debug)]
pub struct Portion(pub token_manager::Portion);

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Portion, D::Error> {
        struct Portions;
        impl Visitor<'_> for Portions {
            type Value = Portion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a share such as 0.2, or {SPAN}")
            }

            fn visit_f64<E: de::Error>(self, share: f64) -> Result<Portion, E> {
                Ok(Portion(token_manager::Portion::Share(share)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Portion, E> {
                let span = Span::parse(text).ok_or_else(|| E::custom(format!("expected a share, or {SPAN}")))?;
                Ok(Portion(span.0.into()))
            }
        }
        from.deserialize_any(Portions)
    }
}

/// One text or several.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an array of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = all.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

/// Where a secret is: `{ file = "/run/secrets/key" }` or `{ env = "KEY" }`, with `or = { … }` for a second one that is tried
/// where the first is refused. A plain text is the secret itself.
#[derive(Clone)]
pub struct SecretAt {
    pub origin: Origin,
    pub or: Option<Box<SecretAt>>,
}

#[derive(Clone)]
pub enum Origin {
    Inline(String),
    File(PathBuf),
    Variable(String),
}

impl fmt::Debug for SecretAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Inline(_) => f.write_str("(inline)"),
            Origin::File(path) => write!(f, "{path:?}"),
            Origin::Variable(name) => write!(f, "${name}"),
        }
    }
}

const SECRET: &str = "where the secret is: { file = \"path\" } or { env = \"VARIABLE\" }";

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    File,
    Env,
    Or,
}

impl<'de> Deserialize<'de> for SecretAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SecretAt, D::Error> {
        struct Secrets;
        impl<'de> Visitor<'de> for Secrets {
            type Value = SecretAt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(SECRET)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretAt, E> {
                Ok(SecretAt { origin: Origin::Inline(text.to_owned()), or: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretAt, A::Error> {
                let (mut origin, mut or) = (None, None);
                while let Some(key) = map.next_key()? {
                    let given = match key {
                        Key::File => Origin::File(map.next_value()?),
                        Key::Env => Origin::Variable(map.next_value()?),
                        Key::Or => {
                            or = Some(Box::new(map.next_value()?));
                            continue;
                        }
                    };
                    if origin.replace(given).is_some() {
                        return Err(de::Error::custom(
                            "both file and env are given; keep one, or put the other into `or`",
                        ));
                    }
                }
                match origin {
                    Some(origin) => Ok(SecretAt { origin, or }),
                    None => Err(de::Error::custom(format!("expected {SECRET}"))),
                }
            }
        }
        from.deserialize_any(Secrets)
    }
}
