//! tokio-tungstenite: what waits for a connection is fed, then flushed once.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use peers::{Channels, Conn, listen};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

async fn serve(stream: TcpStream, number: u64, channels: Channels) {
    // The default read buffer of 128 KiB is zeroed at every read.
    let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
    let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else { return };
    let (mut sink, mut stream) = socket.split();
    let (outbox, mut queue) = unbounded_channel::<Bytes>();
    let mut conn = Conn::new(number, outbox, channels);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => conn.text(&text),
                Some(Ok(_)) => {}
                _ => return,
            },
            Some(first) = queue.recv() => {
                let mut next = Some(first);
                while let Some(text) = next {
                    let Ok(text) = Utf8Bytes::try_from(text) else { return };
                    if sink.feed(Message::Text(text)).await.is_err() {
                        return;
                    }
                    next = queue.try_recv().ok();
                }
                if sink.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn main() {
    let channels = Channels::default();
    listen(move |stream, number| serve(stream, number, channels.clone()));
}
