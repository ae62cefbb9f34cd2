//! Values as bytes and back: numbers of eight bytes, lowest first, texts behind their length, what may be absent behind a 0 or a 1.

use std::time::Duration;

/// Collects bytes.
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Begins with the version of the form.
    pub fn new(version: u8) -> Writer {
        Writer(vec![version])
    }

    pub fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    /// Writes a length of time, exact to the microsecond.
    pub fn length(&mut self, length: Duration) {
        self.number(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn option<T>(&mut self, value: &Option<T>, put: impl FnOnce(&mut Writer, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
}

/// The bytes that are still to be read; all methods return `None` where they are not what a [`Writer`] wrote.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns the version, and what stands behind it.
    pub fn new(bytes: &'a [u8]) -> Option<(u8, Reader<'a>)> {
        bytes.split_first().map(|(version, rest)| (*version, Reader(rest)))
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all that is still to be read.
    #[cfg(unix)]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    pub fn length(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_micros)
    }

    pub fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        let (is_there, rest) = self.0.split_first()?;
        self.0 = rest;
        match is_there {
            0 => Some(None),
            1 => value(self).map(Some),
            _ => None,
        }
    }
}
