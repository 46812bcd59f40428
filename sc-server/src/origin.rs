//! The origin check of the upgrade.
//!
//! SC searches its `origins` string for `host:port`, `host:*` and `*:port` as *substrings*, so that `good.example:80` also
//! admits `d.example`. Here the list is split at white space and commas, and entries are compared whole.

/// Which `Origin` headers may connect. The default, `*:*`, admits all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    entries: Vec<String>,
    all: bool,
}

impl Default for Origins {
    fn default() -> Self {
        Self::parse("*:*")
    }
}

impl Origins {
    /// A list of `host:port`, `host:*` and `*:port`, separated by white space or commas. `*:*` admits everything.
    ///
    /// ```
    /// use sc_server::Origins;
    ///
    /// let origins = Origins::parse("good.example:443, *:8000");
    /// assert!(origins.admit(Some("https://good.example")));
    /// assert!(!origins.admit(Some("https://d.example")));
    /// assert!(origins.admit(Some("http://any.example:8000")));
    /// assert!(!origins.admit(None));
    /// ```
    pub fn parse(list: &str) -> Self {
        let entries: Vec<String> = list
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        Self { all: entries.iter().any(|entry| entry == "*:*"), entries }
    }

    /// Whether a request with this `Origin` header may connect. A missing one, and the text `null`, count as the host `*`
    /// at port 80, as in SC.
    pub fn admit(&self, origin: Option<&str>) -> bool {
        if self.all {
            return true;
        }
        let (host, port) = host_and_port(shown(origin));
        let host = host.to_ascii_lowercase();
        self.entries
            .iter()
            .filter_map(|entry| entry.rsplit_once(':'))
            .any(|(h, p)| (h == "*" || h == host) && (p == "*" || p == port))
    }
}

/// What SC takes for the origin, also in its errors.
pub(crate) fn shown(origin: Option<&str>) -> &str {
    match origin {
        None | Some("null") => "*",
        Some(origin) => origin,
    }
}

/// Host and port of an origin (RFC 6454 §6.2); the port is that of the scheme where none is given.
fn host_and_port(origin: &str) -> (&str, &str) {
    let (default_port, rest) = match origin.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") => {
            ("443", rest)
        }
        Some((_, rest)) => ("80", rest),
        None => ("80", origin),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.rsplit_once(':') {
        // The colons inside the brackets of an IPv6 address are no port.
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ => (authority, default_port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_compared_whole() {
        let origins = Origins::parse("good.example:80");
        assert!(origins.admit(Some("http://good.example")));
        assert!(origins.admit(Some("http://GOOD.example:80")));
        assert!(!origins.admit(Some("http://d.example")));
        assert!(!origins.admit(Some("http://good.example:8080")));
        assert!(!origins.admit(Some("https://good.example")), "443 is not 80");
    }

    #[test]
    fn a_missing_origin_needs_a_wildcard_host() {
        assert!(!Origins::parse("good.example:*").admit(None));
        assert!(!Origins::parse("good.example:*").admit(Some("null")));
        assert!(Origins::parse("*:80").admit(None));
        assert!(Origins::default().admit(None));
    }

    #[test]
    fn ipv6_origins_have_ports_too() {
        assert!(Origins::parse("[::1]:8000").admit(Some("http://[::1]:8000")));
        assert!(Origins::parse("[::1]:80").admit(Some("http://[::1]")));
    }
}
