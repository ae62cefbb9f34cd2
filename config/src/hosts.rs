//! The servers that may be given a token: by scheme, host and port, as programs name them in their own ways.

/// Returns the server of an address as `scheme://host[:port]`: with `https` where it has no scheme, without user and path. `None` if there
/// is no host in it.
pub fn server_of(address: &str) -> Option<String> {
    let address = address.trim();
    let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = if scheme.eq_ignore_ascii_case("https") { host.strip_suffix(":443").unwrap_or(host) } else { host };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    is_host.then(|| format!("{scheme}://{host}").to_ascii_lowercase())
}

/// Returns what is wrong with an entry of the settings, if anything.
pub fn objection(entry: &str) -> Option<&'static str> {
    let host = entry.split_once("://").map_or(entry, |(_, host)| host);
    match server_of(entry) {
        Some(_) if !host.contains(['/', '?', '#', '@', '*']) => None,
        _ => Some(
            "is no server; write its host as the program names it, such as \"git.example.com\" or \"git.example.com:8443\"",
        ),
    }
}
