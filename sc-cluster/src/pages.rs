//! What a worker answers to HTTP requests that open no WebSocket: pages and assets that are in the binary, and files of folders.
//!
//! Only `GET` and `HEAD` are served. Everything has an `ETag`, so that a browser that comes back gets `304 Not Modified`.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use sc_protocol::http::{RequestHead, reason_phrase, write_head};

use crate::static_dir::{Found, StaticDir};

/// A file of up to this many bytes is read at once, a longer one piece by piece.
const FILE_WHOLE_MAX: u64 = 64 * 1024;

/// The pages of a worker. The first that fits a request answers it: a fixed path before a folder, the longer prefix of two folders before the shorter.
///
/// ```
/// use sc_cluster::Pages;
///
/// let pages = Pages::new()
///     .asset("/", "text/html; charset=utf-8", "<!doctype html><title>Hello</title>")
///     .text("/health", "ok");
/// assert!(!pages.is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Pages {
    fixed: BTreeMap<String, Page>,
    dirs: Vec<StaticDir>,
    headers: Vec<(String, String)>,
}

#[derive(Debug)]
struct Page {
    content_type: String,
    /// Quoted, a hash of the body: the same in every worker that runs the same binary.
    etag: String,
    body: Bytes,
}

impl Pages {
    /// No pages: every request gets `404 Not Found`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `body` at exactly `path` (which begins with `/` and has no query). Of two with the same path the later one is served.
    #[must_use]
    pub fn asset(mut self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut hasher = DefaultHasher::new();
        hasher.write(&body);
        let etag = format!("\"{:016x}\"", hasher.finish());
        self.fixed.insert(path.to_owned(), Page { content_type: content_type.to_owned(), etag, body });
        self
    }

    /// Serves a plain text at exactly `path`, for health checks and the like.
    #[must_use]
    pub fn text(self, path: &str, body: impl Into<String>) -> Self {
        self.asset(path, "text/plain; charset=utf-8", body.into())
    }

    /// Serves the files in the folder `dir` under `prefix`: with the prefix `/img` the file `dir/a/b.png` is `/img/a/b.png`. A path that ends in `/` is
    /// answered with the `index.html` of that folder. Names that begin with a dot are never served, and no link leads out of `dir`.
    #[must_use]
    pub fn serve_dir(mut self, prefix: &str, dir: impl Into<PathBuf>) -> Self {
        self.dirs.push(StaticDir::new(prefix, dir.into()));
        self.dirs.sort_by_key(|dir| std::cmp::Reverse(dir.prefix().len()));
        self
    }

    /// Sends a header with every response of these pages, whether it is a page, a file or an error: for a `Content-Security-Policy` and the like. There
    /// are none by default but those that a response is made of, and `X-Content-Type-Options: nosniff`; where a response has a header of this name
    /// already, that one stays.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether nothing is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.dirs.is_empty()
    }

    /// Whether something may be found at a path.
    pub(crate) fn covers(&self, path: &str) -> bool {
        self.fixed.contains_key(path) || self.dirs.iter().any(|dir| dir.covers(path))
    }

    /// Answers a request whose head has been read. `may_stay`: the connection may serve another one. `unix_ms` is the wall clock.
    pub(crate) fn answer(&self, head: &RequestHead<'_, '_>, may_stay: bool, unix_ms: u64) -> Answer {
        // The body of a request that nobody wants is not read, so nothing after it could be understood.
        let keep_alive = may_stay && head.keep_alive() && !head.has_body();
        let reply = Reply { keep_alive, head_only: head.method == "HEAD", unix_ms, headers: &self.headers };
        if head.minor_version >= 1 && head.header("host").is_none() {
            return error(400, unix_ms);
        }
        let path = head.path();
        let found = self.fixed.get(path);
        if !self.covers(path) {
            return reply.plain(404, &[]);
        }
        if head.method != "GET" && head.method != "HEAD" {
            return reply.plain(405, &[("Allow", "GET, HEAD")]);
        }
        if let Some(page) = found {
            return reply.page(page, head);
        }
        for dir in self.dirs.iter().filter(|dir| dir.covers(path)) {
            match dir.find(path) {
                Found::Nothing => {}
                // One slash in front: two would name another host.
                Found::Folder => {
                    return reply.plain(308, &[("Location", &format!("/{}/", path.trim_start_matches('/')))]);
                }
                Found::File(file) => return reply.file(file, head),
            }
        }
        reply.plain(404, &[])
    }
}

/// A file to be served, already open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: File,
    pub(crate) len: u64,
    /// Whole seconds since 1970.
    pub(crate) modified_secs: u64,
    pub(crate) content_type: &'static str,
}

/// A response: its head, its body, and whether the connection may serve another request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Bytes,
    pub(crate) body: Body,
    pub(crate) keep_alive: bool,
}

/// What follows the head of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// So many bytes of the file from its beginning.
    File(File, u64),
}

/// The response to a request that could not be read, and to one that opens a WebSocket where there is none: a short text, and the connection ends.
pub(crate) fn error(status: u16, unix_ms: u64) -> Answer {
    Reply { keep_alive: false, head_only: false, unix_ms, headers: &[] }.plain(status, &[])
}

/// The response to a request at the path of WebSockets that asks for none (RFC 9110 section 15.5.22).
pub(crate) fn upgrade_required(head: &RequestHead<'_, '_>, unix_ms: u64) -> Answer {
    let reply = Reply { keep_alive: false, head_only: head.method == "HEAD", unix_ms, headers: &[] };
    reply.plain(426, &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")])
}

/// How a response is given.
#[derive(Clone, Copy)]
struct Reply<'p> {
    keep_alive: bool,
    head_only: bool,
    unix_ms: u64,
    /// What the application wants with every response.
    headers: &'p [(String, String)],
}

impl Reply<'_> {
    fn page(self, page: &Page, head: &RequestHead<'_, '_>) -> Answer {
        let cache = [("ETag", page.etag.as_str()), ("Cache-Control", "no-cache")];
        if has_etag(head, &page.etag) {
            return self.not_modified(&cache);
        }
        let body = Body::Bytes(page.body.clone());
        self.whole(200, page.body.len() as u64, &page.content_type, &cache, body)
    }

    fn file(self, open: OpenFile, head: &RequestHead<'_, '_>) -> Answer {
        let etag = format!("W/\"{:x}-{:x}\"", open.len, open.modified_secs);
        let modified = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(open.modified_secs));
        let cache = [("ETag", etag.as_str()), ("Last-Modified", &modified), ("Cache-Control", "no-cache")];
        let known = match head.header("if-none-match") {
            Some(_) => has_etag(head, &etag),
            None => not_modified_since(head, open.modified_secs),
        };
        if known {
            return self.not_modified(&cache);
        }
        if open.len > FILE_WHOLE_MAX {
            // Sent in pieces; the connection ends with it, so that nothing needs to wait behind it.
            let last = Self { keep_alive: false, ..self };
            return last.whole(200, open.len, open.content_type, &cache, Body::File(open.file, open.len));
        }
        let mut body = Vec::with_capacity(open.len as usize);
        match open.file.take(open.len).read_to_end(&mut body) {
            Ok(read) if read as u64 == open.len => {
                self.whole(200, open.len, open.content_type, &cache, Body::Bytes(body.into()))
            }
            _ => self.plain(500, &[]),
        }
    }

    fn not_modified(self, headers: &[(&str, &str)]) -> Answer {
        self.with_head(304, None, headers, Body::Empty)
    }

    /// The status as a text.
    fn plain(self, status: u16, headers: &[(&str, &str)]) -> Answer {
        let text = format!("{status} {}\n", reason_phrase(status));
        let len = text.len() as u64;
        self.whole(status, len, "text/plain; charset=utf-8", headers, Body::Bytes(text.into()))
    }

    fn whole(self, status: u16, len: u64, content_type: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut all = vec![("Content-Type", content_type), ("X-Content-Type-Options", "nosniff")];
        all.extend_from_slice(headers);
        let body = if self.head_only || len == 0 { Body::Empty } else { body };
        self.with_head(status, Some(len), &all, body)
    }

    fn with_head(self, status: u16, len: Option<u64>, headers: &[(&str, &str)], body: Body) -> Answer {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(self.unix_ms));
        let connection = match status {
            // The header that says to what belongs to this connection alone.
            426 => "close, Upgrade",
            _ if self.keep_alive => "keep-alive",
            _ => "close",
        };
        let mut all = vec![("Date", date.as_str()), ("Connection", connection)];
        all.extend_from_slice(headers);
        for (name, value) in self.headers {
            // A header that is there already is the response's own.
            if !all.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                all.push((name, value));
            }
        }
        let mut out = BytesMut::with_capacity(640);
        write_head(&mut out, status, &all, len);
        Answer { head: out.freeze(), body, keep_alive: self.keep_alive }
    }
}

/// Whether `If-None-Match` names the tag; compared weakly (RFC 9110 section 13.1.2).
fn has_etag(head: &RequestHead<'_, '_>, etag: &str) -> bool {
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    head.header("if-none-match")
        .is_some_and(|list| list.split(',').any(|tag| tag.trim() == "*" || strong(tag) == strong(etag)))
}

fn not_modified_since(head: &RequestHead<'_, '_>, modified_secs: u64) -> bool {
    let since = head.header("if-modified-since").and_then(|date| httpdate::parse_http_date(date).ok());
    since.is_some_and(|since| since >= UNIX_EPOCH + Duration::from_secs(modified_secs))
}

#[cfg(test)]
mod tests {
    use sc_protocol::http::HeadReader;

    use super::*;

    fn pages() -> Pages {
        Pages::new().asset("/", "text/html; charset=utf-8", "<p>hi").text("/health", "ok")
    }

    /// The response as text, and whether the connection stays.
    fn ask(pages: &Pages, request: &str) -> (String, bool) {
        let answer = HeadReader::new().request(request.as_bytes(), |head| pages.answer(head, true, 0));
        let (answer, used) = answer.unwrap().unwrap();
        assert!(used <= request.len());
        let mut text = String::from_utf8(answer.head.to_vec()).unwrap();
        match answer.body {
            Body::Empty => {}
            Body::Bytes(body) => text.push_str(std::str::from_utf8(&body).unwrap()),
            Body::File(mut file, len) => {
                let mut body = String::new();
                file.read_to_string(&mut body).unwrap();
                assert_eq!(body.len() as u64, len);
                text.push_str(&body);
            }
        }
        (text, answer.keep_alive)
    }

    fn get(path: &str, headers: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    }

    fn etag(response: &str) -> String {
        response.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned()
    }

    #[test]
    fn a_page_is_served_whole() {
        let (text, stays) = ask(&pages(), &get("/?a=b", ""));
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 5\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n<p>hi"), "{text}");
        assert!(stays);
    }

    #[test]
    fn headers_of_the_application_go_with_everything() {
        let pages = pages().header("Referrer-Policy", "no-referrer").header("content-type", "x/y");
        let (first, _) = ask(&pages, &get("/", ""));
        let known = format!("If-None-Match: {}\r\n", etag(&first));
        let (missing, _) = ask(&pages, &get("/none", ""));
        let (not_modified, _) = ask(&pages, &get("/", &known));
        for text in [&first, &missing, &not_modified] {
            assert_eq!(text.matches("\r\nReferrer-Policy: no-referrer\r\n").count(), 1, "{text}");
        }
        assert!(first.contains("Content-Type: text/html") && !first.contains("x/y"), "{first}");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let (text, _) = ask(&pages(), "HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(text.contains("\r\nContent-Length: 2\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_known_etag_gets_304_without_a_body() {
        let (first, _) = ask(&pages(), &get("/", ""));
        let tag = etag(&first);
        for list in [tag.clone(), format!("\"no\", W/{tag}"), "*".to_owned()] {
            let (again, stays) = ask(&pages(), &get("/", &format!("If-None-Match: {list}\r\n")));
            assert!(again.starts_with("HTTP/1.1 304 Not Modified\r\n") && again.ends_with("\r\n\r\n"), "{again}");
            assert!(stays && etag(&again) == tag && !again.contains("Content-Length"));
        }
        let (other, _) = ask(&pages(), &get("/", "If-None-Match: \"other\"\r\n"));
        assert!(other.starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn what_is_not_served_is_a_proper_error() {
        let pages = pages();
        for (request, status) in [
            (get("/none", ""), "404 Not Found"),
            (get("//", ""), "404 Not Found"),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405 Method Not Allowed"),
            ("OPTIONS /health HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "405 Method Not Allowed"),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400 Bad Request"),
        ] {
            let (text, _) = ask(&pages, &request);
            assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request} got {text}");
            assert!(text.ends_with(&format!("\r\n\r\n{status}\n")), "{text}");
            assert_eq!(text.contains("Allow: GET, HEAD\r\n"), status.starts_with("405"));
        }
    }

    #[test]
    fn a_connection_stays_only_where_the_next_request_can_be_read() {
        let pages = pages();
        for (request, stays) in [
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            let (text, stayed) = ask(&pages, request);
            assert_eq!(stayed, stays, "{request}");
            assert!(text.contains(if stays { "Connection: keep-alive\r\n" } else { "Connection: close\r\n" }));
        }
    }

    #[test]
    fn a_whole_address_as_target_counts_by_its_path() {
        let (text, _) = ask(&pages(), &get("http://x:80/health?q", ""));
        assert!(text.ends_with("ok"), "{text}");
    }

    #[test]
    fn a_folder_is_served_with_dates_and_an_index() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/index.html"), "<p>sub").unwrap();
        let pages = pages().serve_dir("/files", dir.path());
        let (text, _) = ask(&pages, &get("/files/sub/", ""));
        assert!(text.contains("Content-Type: text/html") && text.ends_with("<p>sub"), "{text}");
        let modified = text.lines().find_map(|line| line.strip_prefix("Last-Modified: ")).unwrap();
        for known in [format!("If-Modified-Since: {modified}\r\n"), format!("If-None-Match: {}\r\n", etag(&text))] {
            let (again, _) = ask(&pages, &get("/files/sub/index.html", &known));
            assert!(again.starts_with("HTTP/1.1 304 "), "{again}");
        }
        let old = "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        assert!(ask(&pages, &get("/files/sub/", old)).0.starts_with("HTTP/1.1 200 "));
        let (redirect, _) = ask(&pages, &get("/files/sub", ""));
        assert!(redirect.starts_with("HTTP/1.1 308 ") && redirect.contains("Location: /files/sub/\r\n"));
        assert!(ask(&pages, &get("/files/none", "")).0.starts_with("HTTP/1.1 404 "));
        let large = "x".repeat(FILE_WHOLE_MAX as usize + 1);
        std::fs::write(dir.path().join("large.bin"), &large).unwrap();
        let (text, stays) = ask(&pages, &get("/files/large.bin", ""));
        assert!(text.ends_with(&format!("\r\n\r\n{large}")) && !stays);
    }
}
