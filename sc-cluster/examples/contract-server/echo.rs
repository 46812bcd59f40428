//! The WebSocket half of sc-protocol without anything of SocketCluster on top: every message comes back. For what tests
//! RFC 6455 itself, on a port of its own (`ECHO_PORT`). One blocking thread for each connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::thread;

use bytes::BytesMut;
use sc_cluster::WorkerStart;
use sc_protocol::http::{self, HeadReader};
use sc_protocol::ws::{CloseCode, Event, OpCode, Reader, Role, frame, handshake};

/// The largest message, in bytes.
const MESSAGE_MAX: usize = 64 << 20;

/// The worker that `make` makes; beside the first one of the cluster, the echo.
pub(crate) fn beside<W>(make: fn(&WorkerStart) -> W) -> impl Fn(&WorkerStart) -> Result<W, String> {
    move |start| {
        if start.is_leader() {
            serve()?;
        }
        Ok(make(start))
    }
}

/// Serves on `ECHO_PORT`, if it is set, for as long as the process lives.
fn serve() -> Result<(), String> {
    let Some(port) = crate::value::<u16>("ECHO_PORT")? else { return Ok(()) };
    let host = crate::text("HOST").unwrap_or_else(|| "127.0.0.1".to_owned());
    let listener = TcpListener::bind((host, port)).map_err(|error| format!("ECHO_PORT {port}: {error}"))?;
    let accept = move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the peer's affair.
            thread::spawn(move || drop(converse(stream)));
        }
    };
    thread::Builder::new().name("echo".to_owned()).spawn(accept).map(drop).map_err(|error| error.to_string())
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut out) = (vec![0; 64 * 1024], BytesMut::new());
    let mut head = HeadReader::new();
    let (mut start, mut end) = loop {
        let len = stream.read(&mut input)?;
        if len == 0 {
            return Ok(());
        }
        let answered = head.request(&input[..len], |head| match handshake::check(head) {
            Ok(upgrade) => {
                handshake::write_accept(&mut out, upgrade.key, upgrade.protocol);
                true
            }
            Err(error) => {
                http::write_response(&mut out, error.status(), error.headers(), error.message().as_bytes());
                false
            }
        });
        match answered {
            Ok(None) => {}
            Ok(Some((true, used))) => break (used, len),
            Ok(Some((false, _))) => return stream.write_all(&out),
            Err(error) => {
                http::write_response(&mut out, error.status(), &[("Connection", "close")], b"");
                return stream.write_all(&out);
            }
        }
    };
    let mut reader = Reader::new(Role::Server);
    loop {
        let done = answer(&mut reader, &mut input[start..end], &mut out);
        stream.write_all(&out)?;
        out.clear();
        if done {
            return Ok(());
        }
        (start, end) = (0, stream.read(&mut input)?);
        if end == 0 {
            return Ok(());
        }
    }
}

/// Whether that was the end of the conversation.
fn answer(reader: &mut Reader, data: &mut [u8], out: &mut BytesMut) -> bool {
    let mut closed = false;
    let result = reader.handle_bytes(MESSAGE_MAX, data, |event| {
        match event {
            Event::Text(text) => frame::write(out, OpCode::Text, text.as_bytes(), None),
            Event::Binary(bytes) => frame::write(out, OpCode::Binary, bytes, None),
            Event::Ping(payload) => frame::write(out, OpCode::Pong, payload, None),
            Event::Pong(_) => {}
            Event::Close(close) => {
                let code = close.map(|(code, _)| CloseCode(code)).filter(|code| code.is_sendable());
                frame::write_close(out, code.map(|code| code.0), "", None);
                closed = true;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = result {
        frame::write_close(out, Some(error.close_code().0), "", None);
        return true;
    }
    closed
}
