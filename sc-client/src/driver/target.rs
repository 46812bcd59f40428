//! Where to connect to: what a URL says.

use std::path::PathBuf;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Authority;

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL of a server or a proxy is none, or not of a kind that is known. The text names neither: it may hold a password.
    #[error("not a usable URL: {0}")]
    Url(&'static str),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// A file cannot be read, or a thread or poll cannot be made.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// What a URL says.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) tls: bool,
    /// For `Host`, with the port if it is not the scheme's own.
    pub(super) host: String,
    /// Path and query. An empty path, or `/`, is SocketCluster's own.
    pub(super) path: String,
    /// The `Authorization` that a user and password in the URL make.
    pub(super) authorization: Option<String>,
}

impl FromStr for Target {
    type Err = ConnectError;

    /// `ws://`, `wss://`, `http://`, `https://`, or `ws+unix:///path/of/socket:/path/of/request`.
    fn from_str(url: &str) -> Result<Self, ConnectError> {
        if let Some(rest) = url.strip_prefix("ws+unix:") {
            let rest = rest.strip_prefix("//").unwrap_or(rest);
            let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
            if !socket.starts_with('/') {
                return Err(ConnectError::Url("the path of a unix socket begins with a slash"));
            }
            let address = Address::Unix(socket.into());
            return Ok(Self {
                address,
                tls: false,
                host: "localhost".to_owned(),
                path: own_path(path),
                authorization: None,
            });
        }
        let uri: Uri = url.parse().map_err(|_| ConnectError::Url("it cannot be parsed"))?;
        let tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => return Err(ConnectError::Url("its scheme is none of ws, wss and ws+unix")),
        };
        let (authority, host) = authority(&uri)?;
        let default = if tls { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default);
        let written =
            if port == default { authority.host().to_owned() } else { format!("{}:{port}", authority.host()) };
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            address: Address::Tcp { host, port },
            tls,
            host: written,
            path: own_path(path),
            authorization: basic(authority),
        })
    }
}

fn own_path(path: &str) -> String {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = if path.is_empty() || path == "/" { "/socketcluster/" } else { path };
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// The authority of a URL, and its host without the brackets of an IPv6 address.
fn authority(uri: &Uri) -> Result<(&Authority, String), ConnectError> {
    let authority = uri.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or(ConnectError::Url("it names no host"))?;
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((authority, host.to_owned()))
}

/// `Basic` credentials from `user:password@`.
fn basic(authority: &Authority) -> Option<String> {
    let (user, _) = authority.as_str().rsplit_once('@')?;
    Some(format!("Basic {}", STANDARD.encode(percent_decode(user))))
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let decoded = (byte == b'%')
            .then(|| after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()))
            .flatten();
        rest = match decoded {
            Some(value) => {
                bytes.push(value);
                &after[2..]
            }
            None => {
                bytes.push(byte);
                after
            }
        };
    }
    bytes
}

/// An HTTP proxy that opens tunnels (`CONNECT`).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) address: Address,
    pub(super) authorization: Option<String>,
}

impl FromStr for Proxy {
    type Err = ConnectError;

    /// `http://[user:password@]host[:port]`, or without the scheme.
    fn from_str(url: &str) -> Result<Self, ConnectError> {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = url.parse().map_err(|_| ConnectError::Url("that of the proxy cannot be parsed"))?;
        if uri.scheme_str() != Some("http") {
            return Err(ConnectError::Url("a proxy's scheme has to be http"));
        }
        let (authority, host) = authority(&uri)?;
        let address = Address::Tcp { host, port: authority.port_u16().unwrap_or(80) };
        Ok(Self { address, authorization: basic(authority) })
    }
}

/// The proxy that the environment names for a target: `HTTPS_PROXY` for TLS and `HTTP_PROXY` (in lower case only, since a
/// CGI server puts a client's header into the other) without, then `ALL_PROXY`; none for hosts that `NO_PROXY` lists.
pub(super) fn proxy_from_env(
    target: &Target,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ConnectError> {
    let Address::Tcp { host, .. } = &target.address else { return Ok(None) };
    let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|value| !value.is_empty()));
    if first(&["no_proxy", "NO_PROXY"]).is_some_and(|list| is_listed(&list, host)) {
        return Ok(None);
    }
    let names: &[&str] = if target.tls { &["https_proxy", "HTTPS_PROXY"] } else { &["http_proxy"] };
    let url = first(names).or_else(|| first(&["all_proxy", "ALL_PROXY"]));
    url.map(|url| url.parse()).transpose()
}

/// Whether a comma-separated list has the host, a domain above it, or `*`.
fn is_listed(list: &str, host: &str) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let domain = entry.trim_start_matches('.');
        entry == "*"
            || (!domain.is_empty()
                && host.len() >= domain.len()
                && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
                && (host.len() == domain.len() || host.as_bytes()[host.len() - domain.len() - 1] == b'.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> (String, bool, String, String) {
        let target: Target = url.parse().unwrap();
        let address = match target.address {
            Address::Tcp { host, port } => format!("{host} {port}"),
            Address::Unix(path) => path.display().to_string(),
        };
        (address, target.tls, target.host, target.path)
    }

    fn is(url: &str, address: &str, tls: bool, host: &str, path: &str) {
        assert_eq!(target(url), (address.to_owned(), tls, host.to_owned(), path.to_owned()), "{url}");
    }

    #[test]
    fn urls_of_every_kind() {
        is("ws://localhost:8000", "localhost 8000", false, "localhost:8000", "/socketcluster/");
        is("wss://example.com/", "example.com 443", true, "example.com", "/socketcluster/");
        is("https://example.com:444/a/b?c=d", "example.com 444", true, "example.com:444", "/a/b?c=d");
        is("ws://[::1]:80/?x=1", "::1 80", false, "[::1]", "/socketcluster/?x=1");
        is("ws+unix:///run/sc.sock", "/run/sc.sock", false, "localhost", "/socketcluster/");
        is("ws+unix:/run/sc.sock:/p?q", "/run/sc.sock", false, "localhost", "/p?q");
        for bad in ["", "localhost", "ftp://a/", "ws://", "ws:///p", "ws+unix:run", "ws://a b/"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
        let target: Target = "ws://ann:p%40ss@localhost/".parse().unwrap();
        assert_eq!(target.authorization.as_deref(), Some("Basic YW5uOnBAc3M="));
    }

    #[test]
    fn proxies_come_from_the_environment_unless_it_says_no() {
        let env = |pairs: &[(&'static str, &'static str)], url: &str| {
            let pairs = pairs.to_vec();
            let found = proxy_from_env(&url.parse().unwrap(), |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            });
            found.unwrap().map(|proxy| match proxy.address {
                Address::Tcp { host, port } => format!("{host} {port}"),
                Address::Unix(_) => String::new(),
            })
        };
        let vars = [("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost,.internal, example.org")];
        assert_eq!(env(&vars, "wss://example.com").as_deref(), Some("proxy 3128"));
        assert_eq!(env(&vars, "ws://example.com"), None);
        assert_eq!(env(&vars, "wss://a.internal"), None);
        assert_eq!(env(&vars, "wss://EXAMPLE.org"), None);
        assert_eq!(env(&vars, "wss://myexample.org").as_deref(), Some("proxy 3128"));
        assert_eq!(env(&[("HTTP_PROXY", "http://evil")], "ws://example.com"), None);
        assert_eq!(env(&[("all_proxy", "p:1")], "ws://example.com").as_deref(), Some("p 1"));
    }
}
