//! fastwebsockets on hyper: a write per message, as the library does it.

use bytes::Bytes;
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use peers::{Channels, Conn, listen};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;

async fn talk(upgrade: upgrade::UpgradeFut, number: u64, channels: Channels) -> Result<(), WebSocketError> {
    let (reader, mut writer) = upgrade.await?.split(tokio::io::split);
    let mut reader = FragmentCollectorRead::new(reader);
    let (outbox, mut queue) = unbounded_channel::<Bytes>();
    let mut conn = Conn::new(number, outbox, channels);
    let write = tokio::task::spawn_local(async move {
        while let Some(text) = queue.recv().await {
            let frame = Frame::new(true, OpCode::Text, None, Payload::Borrowed(&text));
            if writer.write_frame(frame).await.is_err() {
                return;
            }
        }
    });
    loop {
        let frame = reader.read_frame::<_, WebSocketError>(&mut |_| async { Ok(()) }).await;
        match frame {
            Ok(frame) if frame.opcode == OpCode::Text => {
                if let Ok(text) = std::str::from_utf8(&frame.payload) {
                    conn.text(text);
                }
            }
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => break,
        }
    }
    write.abort();
    Ok(())
}

async fn serve(stream: TcpStream, number: u64, channels: Channels) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let channels = channels.clone();
        async move {
            let (response, upgrade): (Response<Empty<Bytes>>, _) = upgrade::upgrade(&mut request)?;
            tokio::task::spawn_local(async move { talk(upgrade, number, channels).await });
            Ok::<_, WebSocketError>(response)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn main() {
    let channels = Channels::default();
    listen(move |stream, number| serve(stream, number, channels.clone()));
}
