//! HTTP/1.x heads: collected from bytes split anywhere, read with `httparse`, and short answers written.
//!
//! This is what stands in front of a WebSocket, and of the few files a server hands out; bodies of requests, pipelining
//! and chunked answers are left to the layer above.

use std::fmt::Write as _;
use std::str;

use bytes::BytesMut;
use httparse::{EMPTY_HEADER, Header, Status};

/// The longest head in bytes, with its final empty line.
pub const HEAD_MAX: usize = 16 * 1024;

/// The most header lines of a head.
pub const HEADERS_MAX: usize = 64;

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Longer than [`HEAD_MAX`].
    #[error("the head is longer than {HEAD_MAX} bytes")]
    TooLarge,
    /// More than [`HEADERS_MAX`] header lines.
    #[error("the head has more than {HEADERS_MAX} header lines")]
    TooManyHeaders,
    /// A version of HTTP other than 1.0 and 1.1.
    #[error("not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// Not HTTP.
    #[error("malformed head")]
    Malformed,
}

impl HeadError {
    /// The status to answer a request with: 431, 505 or 400.
    pub const fn status(&self) -> u16 {
        match self {
            Self::TooLarge | Self::TooManyHeaders => 431,
            Self::Version => 505,
            Self::Malformed => 400,
        }
    }
}

/// Collects a head that may come split at any byte.
///
/// A head that comes whole is read where it is, without a copy. Empty lines in front of it are skipped (RFC 9112
/// section 2.2). After a head the reader is ready for the next one.
///
/// ```
/// use sc_protocol::http::HeadReader;
///
/// let mut reader = HeadReader::new();
/// assert_eq!(reader.request(b"GET /a?b=c HTTP/1.1\r\nHos", |_| ())?, None);
/// let (host, used) = reader
///     .request(b"t: example.com\r\n\r\nbody", |head| {
///         assert_eq!((head.path(), head.query()), ("/a", Some("b=c")));
///         head.header("host").map(str::to_owned)
///     })?
///     .unwrap();
/// assert_eq!((host.as_deref(), used), (Some("example.com"), 18));
/// # Ok::<(), sc_protocol::http::HeadError>(())
/// ```
#[derive(Debug, Default)]
pub struct HeadReader {
    /// The start of a head; no allocation if there is none.
    held: Vec<u8>,
}

impl HeadReader {
    /// A reader that holds nothing.
    pub const fn new() -> Self {
        Self { held: Vec::new() }
    }

    /// Takes bytes of a request. When its head is whole, `read` sees it, and the answer is what `read` made of it with
    /// the number of bytes of `data` that belong to the head; what follows them is not touched. `None`: all of `data`
    /// is taken, more is needed.
    ///
    /// # Errors
    /// What is wrong with the head; the connection is of no further use. The error does not depend on how the head was
    /// split.
    pub fn request<R>(
        &mut self,
        data: &[u8],
        read: impl FnOnce(&RequestHead<'_, '_>) -> R,
    ) -> Result<Option<(R, usize)>, HeadError> {
        self.collect(data, |bytes| {
            let mut headers = [EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Request::new(&mut headers);
            whole(parsed.parse(bytes))?;
            let (Some(method), Some(target), Some(minor_version)) = (parsed.method, parsed.path, parsed.version) else {
                return Err(HeadError::Malformed);
            };
            Ok(read(&RequestHead { method, target, minor_version, headers: parsed.headers }))
        })
    }

    /// The same for a response.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn response<R>(
        &mut self,
        data: &[u8],
        read: impl FnOnce(&ResponseHead<'_, '_>) -> R,
    ) -> Result<Option<(R, usize)>, HeadError> {
        self.collect(data, |bytes| {
            let mut headers = [EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = httparse::Response::new(&mut headers);
            whole(parsed.parse(bytes))?;
            let (Some(status), Some(minor_version)) = (parsed.code, parsed.version) else {
                return Err(HeadError::Malformed);
            };
            let reason = parsed.reason.unwrap_or_default();
            Ok(read(&ResponseHead { status, reason, minor_version, headers: parsed.headers }))
        })
    }

    /// How many bytes of an unfinished head are held.
    pub const fn buffered(&self) -> usize {
        self.held.len()
    }

    /// Parses only once the end of the head has been seen, so that a head which comes byte by byte costs no more than
    /// one that comes whole.
    fn collect<R>(
        &mut self,
        data: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<R, HeadError>,
    ) -> Result<Option<(R, usize)>, HeadError> {
        let mut skipped = 0;
        if self.held.is_empty() {
            skipped = data.iter().position(|&byte| byte != b'\r' && byte != b'\n').unwrap_or(data.len());
            // Something else than HTTP, say TLS, is known by its first byte: both kinds of head begin with a token.
            if data.get(skipped).is_some_and(|&byte| !is_token_byte(byte)) {
                return Err(HeadError::Malformed);
            }
            let head = &data[skipped..];
            if let Some(end) = head_end(head, 0) {
                return Ok(Some((parse(within_limit(&head[..end])?)?, skipped + end)));
            }
        }
        let before = self.held.len();
        let take = (data.len() - skipped).min(HEAD_MAX + 1 - before);
        self.held.extend_from_slice(&data[skipped..skipped + take]);
        let Some(end) = head_end(&self.held, before) else {
            within_limit(&self.held)?;
            return Ok(None);
        };
        let held = std::mem::take(&mut self.held);
        Ok(Some((parse(within_limit(&held[..end])?)?, end - before)))
    }
}

/// The head of a request, lent.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a, 'h> {
    /// The method, in the letter case it came in (methods are case-sensitive).
    pub method: &'a str,
    /// The request target as it came: usually path and query, with a proxy also a whole URL.
    pub target: &'a str,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    headers: &'h [Header<'a>],
}

impl<'a> RequestHead<'a, '_> {
    /// The value of the first header of that name (in any letter case), if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The values of all headers of that name that are UTF-8.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        values(self.headers, name)
    }

    /// All headers, in order, names in the letter case they came in.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether a header that is a comma-separated list, perhaps over several lines, has that element (in any letter
    /// case).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        has_token(self.headers, name, token)
    }

    /// The path of the target, not decoded, without the query.
    pub fn path(&self) -> &'a str {
        self.split_target().0
    }

    /// What follows the first `?` of the target, not decoded.
    pub fn query(&self) -> Option<&'a str> {
        self.split_target().1
    }

    /// Whether the client wants the connection kept: unless `Connection: close` in HTTP/1.1, only with
    /// `Connection: keep-alive` in HTTP/1.0.
    pub fn keep_alive(&self) -> bool {
        match self.minor_version {
            0 => self.has_token("connection", "keep-alive"),
            _ => !self.has_token("connection", "close"),
        }
    }

    /// Whether a body follows the head (RFC 9112 section 6.3): there is a `Transfer-Encoding`, or a `Content-Length`
    /// other than 0.
    pub fn has_body(&self) -> bool {
        self.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding")
                || (header.name.eq_ignore_ascii_case("content-length") && header.value != b"0")
        })
    }

    fn split_target(&self) -> (&'a str, Option<&'a str>) {
        let (whole, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        // A server must understand a whole URL as well (RFC 9112 section 3.2.2).
        let path = match whole.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
            _ => whole,
        };
        (path, query)
    }
}

/// The head of a response, lent.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a, 'h> {
    /// The status code.
    pub status: u16,
    /// The reason phrase, perhaps empty.
    pub reason: &'a str,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    headers: &'h [Header<'a>],
}

impl<'a> ResponseHead<'a, '_> {
    /// The value of the first header of that name (in any letter case), if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The values of all headers of that name that are UTF-8.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        values(self.headers, name)
    }

    /// All headers, in order, names in the letter case they came in.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether a header that is a comma-separated list, perhaps over several lines, has that element (in any letter
    /// case).
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        has_token(self.headers, name, token)
    }
}

/// Writes a whole response behind what `out` holds, with `Content-Length` and the standard reason phrase.
///
/// ```
/// use bytes::BytesMut;
/// use sc_protocol::http;
///
/// let mut out = BytesMut::new();
/// http::write_response(&mut out, 403, &[("Connection", "close")], b"no");
/// assert_eq!(&out[..], b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
/// ```
pub fn write_response(out: &mut BytesMut, status: u16, headers: &[(&str, &str)], body: &[u8]) {
    write_head(out, status, headers, Some(body.len() as u64));
    out.extend_from_slice(body);
}

/// Writes the head of a response whose body follows apart, or does not follow (the answer to `HEAD`).
///
/// Control characters in names and values are written as spaces, so that a value that came from elsewhere cannot end
/// its line.
pub fn write_head(out: &mut BytesMut, status: u16, headers: &[(&str, &str)], content_length: Option<u64>) {
    // Writing to a `BytesMut` makes it grow and does not fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", reason_phrase(status));
    for (name, value) in headers {
        put_line_part(out, name);
        out.extend_from_slice(b": ");
        put_line_part(out, value);
        out.extend_from_slice(b"\r\n");
    }
    if let Some(len) = content_length {
        let _ = write!(out, "Content-Length: {len}\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The standard reason phrase of a status (RFC 9110 section 15), empty for one that is not in use here.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// Whether the text is a token (RFC 9110 section 5.6.2), as methods, header names and sub-protocols are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// The elements of a comma-separated list, without the empty ones.
pub(crate) fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Where the head ends: behind the first empty line. What lies before `from` has been searched before.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    // The empty line may have begun up to two bytes before the new ones.
    let mut at = from.saturating_sub(2);
    while let Some(newline) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        at += newline + 1;
        match &bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

const fn within_limit(head: &[u8]) -> Result<&[u8], HeadError> {
    if head.len() > HEAD_MAX { Err(HeadError::TooLarge) } else { Ok(head) }
}

/// A head that has ended and still asks for more is none.
fn whole(parsed: httparse::Result<usize>) -> Result<(), HeadError> {
    match parsed {
        Ok(Status::Complete(_)) => Ok(()),
        Ok(Status::Partial) => Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooManyHeaders),
        Err(httparse::Error::Version) => Err(HeadError::Version),
        Err(_) => Err(HeadError::Malformed),
    }
}

fn values<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| str::from_utf8(header.value).ok())
}

fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    values(headers, name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token))
}

fn put_line_part(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().map(|byte| if byte.is_ascii_control() && byte != b'\t' { b' ' } else { byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &'static str) -> (&'static str, Option<&'static str>) {
        RequestHead { method: "GET", target: text, minor_version: 1, headers: &[] }.split_target()
    }

    #[test]
    fn targets_are_split() {
        assert_eq!(target("/socketcluster/?a=b?c"), ("/socketcluster/", Some("a=b?c")));
        assert_eq!(target("/"), ("/", None));
        assert_eq!(target("http://host:80/x/y?q"), ("/x/y", Some("q")));
        assert_eq!(target("http://host"), ("/", None));
        assert_eq!(target("/go?to=http://host/x"), ("/go", Some("to=http://host/x")));
        assert_eq!(target("/go/http://host/x"), ("/go/http://host/x", None));
        assert_eq!(target("*"), ("*", None));
    }

    #[test]
    fn the_end_is_found_at_every_split() {
        for head in [&b"GET / HTTP/1.1\r\n\r\nrest"[..], b"GET / HTTP/1.1\n\nrest", b"a\r\nb\r\n\r\nrest"] {
            let end = head.len() - 4;
            for cut in 0..end {
                assert_eq!(head_end(&head[..cut], 0), None);
                assert_eq!(head_end(head, cut), Some(end), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = BytesMut::new();
        write_response(&mut out, 400, &[("X", "a\r\nSet-Cookie: b")], b"");
        assert_eq!(&out[..], b"HTTP/1.1 400 Bad Request\r\nX: a  Set-Cookie: b\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn lists_are_read_element_by_element() {
        assert_eq!(elements(" keep-alive,\tUpgrade ,, x").collect::<Vec<_>>(), ["keep-alive", "Upgrade", "x"]);
        assert!(is_token("chat-v1.2") && !is_token("") && !is_token("a b") && !is_token("a\"b"));
    }
}
