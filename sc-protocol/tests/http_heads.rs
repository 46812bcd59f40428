//! Heads of requests and responses, whole and in pieces.

use proptest::prelude::*;
use sc_protocol::http::{HEAD_MAX, HEADERS_MAX, HeadError, HeadReader};

/// What is read of a request: method, target, version and headers, and how many bytes it had; `None` if it is not whole.
type Seen = Option<(String, usize)>;

/// Reads one request, given in pieces of these sizes over and over.
fn read(bytes: &[u8], sizes: &[usize]) -> Result<Seen, HeadError> {
    let mut reader = HeadReader::new();
    let mut before = 0usize;
    for size in sizes.iter().cycle() {
        let piece = &bytes[before..bytes.len().min(before.saturating_add(*size))];
        if piece.is_empty() {
            break;
        }
        let seen = reader.request(piece, |head| {
            let headers: Vec<_> = head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            format!("{} {} {} {headers:?}", head.method, head.target, head.minor_version)
        })?;
        if let Some((text, used)) = seen {
            assert_eq!(reader.buffered(), 0);
            return Ok(Some((text, before + used)));
        }
        assert!(reader.buffered() <= HEAD_MAX);
        before += piece.len();
    }
    Ok(None)
}

fn whole(bytes: &[u8]) -> Result<Seen, HeadError> {
    read(bytes, &[usize::MAX])
}

#[test]
fn what_follows_a_head_is_not_taken() {
    let (seen, used) = whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody").unwrap().unwrap();
    assert_eq!((seen.as_str(), used), (r#"GET / 1 [("Host", [97])]"#, 27));
}

#[test]
fn one_reader_reads_one_head_after_another() {
    let mut reader = HeadReader::new();
    let requests = b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nA: b\r\n\r\n";
    let (mut targets, mut at) = (Vec::new(), 0);
    for end in [10, 25, requests.len()] {
        while let Some((target, used)) = reader.request(&requests[at..end], |head| head.target.to_owned()).unwrap() {
            targets.push(target);
            at += used;
        }
        at = end;
    }
    assert_eq!(targets, ["/1", "/2"]);
}

#[test]
fn headers_are_found_in_any_letter_case() {
    let request = b"GET /a/b?c=d HTTP/1.1\r\nHOST:  a  \r\nX: 1\r\nx: 2\r\nBad: \xff\r\nConnection: Foo, Close\r\n\r\n";
    HeadReader::new()
        .request(request, |head| {
            assert_eq!((head.path(), head.query()), ("/a/b", Some("c=d")));
            assert_eq!(head.header("host"), Some("a"));
            assert_eq!(head.header("X"), Some("1"));
            assert_eq!(head.values("x").collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!((head.header("bad"), head.header("none")), (None, None));
            assert!(head.has_token("connection", "close") && !head.has_token("connection", "clo"));
            assert!(!head.keep_alive() && !head.has_body());
        })
        .unwrap()
        .unwrap();
}

#[test]
fn connections_are_kept_as_the_version_says() {
    let keep = |request: &str| {
        let head = HeadReader::new().request(request.as_bytes(), |head| (head.keep_alive(), head.has_body()));
        head.unwrap().unwrap().0
    };
    assert_eq!(keep("GET / HTTP/1.1\r\n\r\n"), (true, false));
    assert_eq!(keep("GET / HTTP/1.0\r\n\r\n"), (false, false));
    assert_eq!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), (true, false));
    assert_eq!(keep("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), (true, true));
    assert_eq!(keep("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), (true, false));
    assert_eq!(keep("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"), (true, true));
}

#[test]
fn responses_are_read() {
    let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00";
    let mut reader = HeadReader::new();
    assert_eq!(reader.response(&response[..20], |_| ()), Ok(None));
    let (_, used) = reader
        .response(&response[20..], |head| {
            assert_eq!((head.status, head.reason, head.minor_version), (101, "Switching Protocols", 1));
            assert!(head.has_token("upgrade", "WebSocket"));
            assert_eq!(head.headers().count(), 1);
        })
        .unwrap()
        .unwrap();
    assert_eq!(used + 20, response.len() - 2);
}

#[test]
fn what_is_no_http_is_refused() {
    use HeadError as E;
    let cases: [(&[u8], E, u16); 7] = [
        (b"\x16\x03\x01\x02\x00\x01", E::Malformed, 400),
        (b"\r\n\x00", E::Malformed, 400),
        (b"GET\r\n\r\n", E::Malformed, 400),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", E::Malformed, 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", E::Malformed, 400),
        (b"GET / HTTP/2.0\r\n\r\n", E::Version, 505),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", E::Malformed, 400),
    ];
    for (bytes, error, status) in cases {
        assert_eq!(whole(bytes), Err(error), "{bytes:?}");
        assert_eq!(read(bytes, &[1]), Err(error), "{bytes:?} byte by byte");
        assert_eq!(error.status(), status);
    }
}

#[test]
fn a_head_has_a_greatest_size() {
    let of = |len: usize| {
        let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
        head.resize(len - 4, b'a');
        head.extend(b"\r\n\r\n");
        head
    };
    for sizes in [&[usize::MAX][..], &[1], &[HEAD_MAX], &[1000, 7]] {
        assert_eq!(read(&of(HEAD_MAX), sizes).unwrap().unwrap().1, HEAD_MAX);
        assert_eq!(read(&of(HEAD_MAX + 1), sizes), Err(HeadError::TooLarge));
        assert_eq!(read(&of(5 * HEAD_MAX), sizes), Err(HeadError::TooLarge));
        assert_eq!(read(&of(5 * HEAD_MAX)[..HEAD_MAX], sizes), Ok(None));
    }
    assert_eq!(HeadError::TooLarge.status(), 431);
}

#[test]
fn a_head_has_a_greatest_number_of_headers() {
    let of = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(whole(of(HEADERS_MAX).as_bytes()).unwrap().is_some());
    assert_eq!(whole(of(HEADERS_MAX + 1).as_bytes()), Err(HeadError::TooManyHeaders));
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        5 => "[A-Za-z-]{1,8}: ?[ -~]{0,20}",
        1 => "[ -~]{0,12}",
    ];
    let end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    (
        "(\r\n|\n|){0,3}",
        "(GET|POST|a b|) /[a-z?/]{0,8} HTTP/1.[0-2]",
        prop::collection::vec(line, 0..5),
        end,
        "[ -~\r\n]{0,20}",
    )
        .prop_map(|(blank, first, lines, end, rest)| {
            let lines: String = lines.into_iter().map(|line| line + end).collect();
            format!("{blank}{first}{end}{lines}{end}{rest}").into_bytes()
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_head(bytes in request(), sizes in prop::collection::vec(1usize..30, 1..6)) {
        prop_assert_eq!(read(&bytes, &sizes), whole(&bytes));
        prop_assert_eq!(read(&bytes, &[1]), whole(&bytes));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1usize..30, 1..6)) {
        prop_assert_eq!(read(&bytes, &sizes), whole(&bytes));
        let _ = HeadReader::new().response(&bytes, |head| head.status);
    }
}
