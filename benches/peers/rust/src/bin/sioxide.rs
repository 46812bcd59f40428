//! socketioxide on hyper, one thread: channels are rooms, and SocketCluster's events are events of Socket.IO.

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[derive(Deserialize)]
struct Subscribe {
    channel: String,
}

#[derive(Serialize, Deserialize)]
struct Publish {
    channel: String,
    data: String,
}

async fn connected(socket: SocketRef) {
    socket.on("echo", async |Data::<String>(data), ack: AckSender| {
        let _ = ack.send(&data);
    });
    socket.on("#subscribe", async |socket: SocketRef, Data::<Subscribe>(data), ack: AckSender| {
        socket.join(data.channel);
        let _ = ack.send(&());
    });
    socket.on("#unsubscribe", async |socket: SocketRef, Data::<String>(channel), ack: AckSender| {
        socket.leave(channel);
        let _ = ack.send(&());
    });
    socket.on("#publish", async |io: SocketIo, Data::<Publish>(data), ack: AckSender| {
        let _ = io.to(data.channel.clone()).emit("#publish", &data).await;
        let _ = ack.send(&());
    });
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (service, io) = SocketIo::builder().max_buffer_size(4096).build_svc();
    io.ns("/", connected);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", peers::port())).await.expect("a free port");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}
