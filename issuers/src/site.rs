//! Where a vendor's interfaces are, and how they are reached: what the builders of its sources have in common.

use crate::error::BuildError;
use crate::http::Http;

/// A base address, without a slash at its end, and the way there.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) base: String,
    pub(crate) http: Http,
}

impl Site {
    pub(crate) fn new(base: &str) -> Site {
        Site { base: base.to_owned(), http: Http::new() }
    }

    pub(crate) fn set_base(&mut self, url: impl Into<String>) {
        self.base = url.into().trim_end_matches('/').to_owned();
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.http.check_url("base_url", &self.base)?;
        self.http.check()
    }

    /// Returns the address of a path with these parameters, of which none is a text yet.
    #[cfg(feature = "_tencent")]
    pub(crate) fn address(&self, path: &str, query: &[(&str, &str)]) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        format!("{}{path}?{query}", self.base)
    }
}

/// Gives a builder the setters of its site; `$site` leads there.
macro_rules! site_setters {
    ($base:literal, $($site:ident).+) => {
        /// Sets the beginning of all addresses, for another host of the vendor's, or for a stand-in in tests.
        #[doc = concat!("Defaults to `", $base, "`.")]
        #[must_use]
        pub fn base_url(mut self, url: impl Into<String>) -> Self {
            self.$($site).+.set_base(url);
            self
        }

        /// Says how the vendor is reached. Defaults to [`Http::new`](crate::Http::new).
        #[must_use]
        pub fn http(mut self, http: crate::Http) -> Self {
            self.$($site).+.http = http;
            self
        }
    };
}
pub(crate) use site_setters;
