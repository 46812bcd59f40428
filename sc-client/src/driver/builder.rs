//! What a client is made of.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::handle::Client;
use super::store::{FileStore, TokenStore};
use super::target::{Address, ConnectError, Proxy, Target, proxy_from_env};
use super::tls::Tls;
use super::{Driver, shared_driver};
use crate::config::{Backoff, Config};
use crate::data::Token;

/// Which proxy to go through.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProxyChoice {
    /// The one that the environment names: `HTTPS_PROXY` for `wss://`, `http_proxy` for `ws://`, `ALL_PROXY` for both, none
    /// for hosts in `NO_PROXY`. The default.
    #[default]
    Environment,
    /// None.
    Direct,
    /// The one with this URL: `http://[user:password@]host:port`.
    Url(String),
}

impl fmt::Debug for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::Direct => "Direct",
            Self::Url(_) => "Url(…)",
        })
    }
}

/// Collects the options of a [`Client`]. What is not set has SocketCluster's default, see [`Config`].
///
/// ```no_run
/// use std::time::Duration;
/// use sc_client::Client;
///
/// let client = Client::builder("wss://example.com/socketcluster/?room=7")
///     .header("Origin", "https://example.com")
///     .token_file("/home/ann/.config/app/tokens.json")
///     .ack_timeout(Duration::from_secs(5))
///     .connect()?;
/// # Ok::<(), sc_client::ConnectError>(())
/// ```
#[derive(Clone)]
#[must_use = "it makes a client only when told to connect"]
pub struct ClientBuilder {
    url: String,
    unix: Option<PathBuf>,
    query: Vec<String>,
    config: Config,
    tls: Option<Tls>,
    proxy: ProxyChoice,
    store: Option<Arc<dyn TokenStore>>,
    token: Option<Token>,
    token_name: Option<String>,
    max_backpressure: usize,
    driver: Option<Driver>,
    connects: bool,
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have a password in it.
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            unix: None,
            query: Vec::new(),
            config: Config::default(),
            tls: None,
            proxy: ProxyChoice::default(),
            store: None,
            token: None,
            token_name: None,
            max_backpressure: 1 << 20,
            driver: None,
            connects: true,
        }
    }

    /// Adds a header to the upgrade request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.config.headers.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a parameter to the query; what has no place in a URL is percent-encoded.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(format!("{}={}", percent_encode(name), percent_encode(value)));
        self
    }

    /// Goes over a unix socket. The URL still gives the scheme, the `Host` and the path.
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix = Some(path.into());
        self
    }

    /// Whom to trust, for `wss://`. Default: the system's roots.
    pub fn tls(mut self, tls: &Tls) -> Self {
        self.tls = Some(tls.clone());
        self
    }

    /// Which proxy to go through. Default: the environment's.
    pub fn proxy(mut self, proxy: ProxyChoice) -> Self {
        self.proxy = proxy;
        self
    }

    /// Where tokens are kept. Default: in this client only.
    pub fn token_store(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Keeps tokens in a file that only its owner can read, see [`FileStore`].
    pub fn token_file(self, path: impl Into<PathBuf>) -> Self {
        self.token_store(Arc::new(FileStore::new(path)))
    }

    /// The name of the token in its store: SC's `authTokenName`. Default `socketcluster.authToken.` and the host with its
    /// port.
    pub fn token_name(mut self, name: &str) -> Self {
        self.token_name = Some(name.to_owned());
        self
    }

    /// A token to begin with. A token in the store comes first.
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Time for an answer. Default 10 s.
    pub const fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.config.ack_timeout = timeout;
        self
    }

    /// Time until the connection is a WebSocket. Default 20 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// How to come back after a loss; `None`: not at all.
    pub const fn reconnect(mut self, backoff: Option<Backoff>) -> Self {
        self.config.reconnect = backoff;
        self
    }

    /// Anything else about the protocol.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Offers permessage-deflate (RFC 7692), if the crate has its feature `deflate`. Default: no.
    pub const fn deflate(mut self, on: bool) -> Self {
        self.config.deflate = on;
        self
    }

    /// Bytes that may wait for the network; beyond them packets wait in the buffer. Default 1 MiB.
    pub const fn max_backpressure(mut self, bytes: usize) -> Self {
        self.max_backpressure = bytes;
        self
    }

    /// The driver whose thread serves the client. Default: one for all clients of the process that name none.
    pub fn driver(mut self, driver: &Driver) -> Self {
        self.driver = Some(driver.clone());
        self
    }

    /// Makes a client that connects only when [`Client::reconnect_now`] is called, or (with `connect_on_demand`) with the
    /// first thing that it has to send.
    pub const fn lazily(mut self) -> Self {
        self.connects = false;
        self
    }

    /// Makes the client. It connects in the background: [`Client::connected`] waits for that.
    ///
    /// # Errors
    /// The URL, a certificate or the proxy cannot be used. That no server is there is no error here: the client tries again.
    pub fn connect(self) -> Result<Client, ConnectError> {
        let mut target: Target = self.url.parse()?;
        if let Some(path) = self.unix {
            target.address = Address::Unix(path);
        }
        let proxy = match &self.proxy {
            ProxyChoice::Direct => None,
            ProxyChoice::Url(url) => Some(url.parse::<Proxy>()?),
            ProxyChoice::Environment => proxy_from_env(&target, |name| std::env::var(name).ok())?,
        };
        let driver = self.driver.map_or_else(shared_driver, Ok)?;
        let tls = match (target.tls, self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => Some(driver.system_tls()?),
        };
        let mut config = self.config;
        for query in self.query {
            target.path.push(if target.path.contains('?') { '&' } else { '?' });
            target.path.push_str(&query);
        }
        if let Some(authorization) = target.authorization.take() {
            config.headers.0.push(("Authorization".to_owned(), authorization));
        }
        let name = self.token_name.unwrap_or_else(|| format!("socketcluster.authToken.{}", target.host));
        config.host.clone_from(&target.host);
        config.target.clone_from(&target.path);
        let plan = Plan {
            config: Arc::new(config),
            address: target.address,
            server_name: target.tls.then(|| server_name(&target.host)).transpose()?,
            tls,
            proxy: proxy.filter(|_| self.url.starts_with("ws+unix").eq(&false)),
            store: self.store.map(|store| (store, name)),
            token: self.token,
            max_backpressure: self.max_backpressure,
            connects: self.connects,
        };
        driver.add(plan)
    }
}

/// What the driver needs to know of a client.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) config: Arc<Config>,
    pub(super) address: Address,
    pub(super) server_name: Option<rustls::pki_types::ServerName<'static>>,
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<Proxy>,
    pub(super) store: Option<(Arc<dyn TokenStore>, String)>,
    pub(super) token: Option<Token>,
    pub(super) max_backpressure: usize,
    pub(super) connects: bool,
}

fn server_name(host: &str) -> Result<rustls::pki_types::ServerName<'static>, ConnectError> {
    // `Host` has a port, and an IPv6 address in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.to_owned().try_into().map_err(|_| ConnectError::Url("its host has no name that a certificate could have"))
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
        out
    })
}
