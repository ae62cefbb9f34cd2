//! How long a token lives, as issuers write it.

use serde_json::Value;
use std::time::Duration;
#[cfg(feature = "_date")]
use std::time::{SystemTime, UNIX_EPOCH};

/// More than ten years no manager believes.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads a number of seconds, or a text that is one. What is below zero lives no time, and what is huge ten years.
pub(crate) fn seconds(told: &Value) -> Option<Duration> {
    let seconds = match told {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    let seconds = if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, LONGEST.as_secs_f64()) };
    Some(Duration::from_secs_f64(seconds))
}

/// Reads a date (RFC 3339) and returns how far it is from this moment, nothing if it is past, ten years if it is
/// further.
#[cfg(feature = "_date")]
pub(crate) fn until(told: &Value, now: SystemTime) -> Option<Duration> {
    let end: jiff::Timestamp = told.as_str()?.parse().ok()?;
    let end = Duration::try_from(end.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default();
    Some(end.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default()).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seconds_are_read_as_numbers_and_as_text() {
        let read = |told| seconds(&told).map(|life| life.as_millis());
        assert_eq!(read(json!(7200)), Some(7_200_000));
        assert_eq!(read(json!("7200")), Some(7_200_000));
        assert_eq!(read(json!(1.5)), Some(1500));
        assert_eq!(read(json!(-1)), Some(0));
        assert_eq!(read(json!("NaN")), Some(0));
        assert_eq!(read(json!(1e300)), Some(LONGEST.as_millis()));
        assert_eq!(read(json!("soon")), None);
        assert_eq!(read(json!(null)), None);
    }

    #[cfg(feature = "_date")]
    #[test]
    fn a_date_is_measured_from_the_moment_that_is_given() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |told| until(&json!(told), now).map(|life| life.as_secs());
        assert_eq!(read("2023-11-14T22:13:30Z"), Some(10));
        assert_eq!(read("2023-11-15T00:13:30+02:00"), Some(10));
        assert_eq!(read("1969-01-01T00:00:00Z"), Some(0));
        assert_eq!(read("2999-01-01T00:00:00Z"), Some(LONGEST.as_secs()));
        assert_eq!(read("tomorrow"), None);
    }
}
