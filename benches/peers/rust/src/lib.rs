//! As much of SocketCluster as the load generator needs, found by substring: what a server on these libraries could reach at best.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

/// Who is subscribed to what.
#[derive(Default, Clone)]
pub struct Channels(Rc<RefCell<HashMap<String, Vec<(u64, UnboundedSender<Bytes>)>>>>);

/// One connection.
pub struct Conn {
    number: u64,
    outbox: UnboundedSender<Bytes>,
    channels: Channels,
    own: Vec<String>,
}

const SUBSCRIBE: &str = "{\"event\":\"#subscribe\",\"data\":{\"channel\":\"";
const UNSUBSCRIBE: &str = "{\"event\":\"#unsubscribe\",\"data\":\"";
const PUBLISH: &str = "{\"event\":\"#publish\",\"data\":{\"channel\":\"";
const ECHO: &str = "{\"event\":\"echo\",\"data\":";

impl Conn {
    pub fn new(number: u64, outbox: UnboundedSender<Bytes>, channels: Channels) -> Self {
        Self { number, outbox, channels, own: Vec::new() }
    }

    /// A message: the texts that answer it go to the outboxes.
    pub fn text(&mut self, text: &str) {
        let Some(tail) = text.rfind(",\"cid\":") else { return };
        let cid = &text[tail + 7..text.len() - 1];
        if let Some(rest) = text.strip_prefix(ECHO) {
            let data = &rest[..tail - ECHO.len()];
            return self.send(format!("{{\"rid\":{cid},\"data\":{data}}}").into());
        }
        if let Some(name) = name(text, SUBSCRIBE) {
            let mut channels = self.channels.0.borrow_mut();
            channels.entry(name.to_owned()).or_default().push((self.number, self.outbox.clone()));
            self.own.push(name.to_owned());
        } else if let Some(name) = name(text, UNSUBSCRIBE) {
            self.leave(name);
            self.own.retain(|own| own != name);
        }
        self.send(format!("{{\"rid\":{cid}}}").into());
        if let Some(name) = name(text, PUBLISH) {
            let message: Bytes = format!("{}}}", &text[..tail]).into();
            if let Some(subscribers) = self.channels.0.borrow().get(name) {
                for (_, outbox) in subscribers {
                    let _ = outbox.send(message.clone());
                }
            }
        }
    }

    fn send(&self, text: Bytes) {
        let _ = self.outbox.send(text);
    }

    fn leave(&self, name: &str) {
        let mut channels = self.channels.0.borrow_mut();
        if let Some(subscribers) = channels.get_mut(name) {
            subscribers.retain(|(number, _)| *number != self.number);
            if subscribers.is_empty() {
                channels.remove(name);
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        for name in std::mem::take(&mut self.own) {
            self.leave(&name);
        }
    }
}

fn name<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.split('"').next()
}

/// The port on the command line.
pub fn port() -> u16 {
    std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: PROGRAM PORT")
}

/// Runs `serve` for every connection, on one thread.
pub fn listen<F: Future<Output = ()> + 'static>(serve: impl Fn(tokio::net::TcpStream, u64) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port())).await.expect("a free port");
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            tokio::task::spawn_local(serve(stream, number));
        }
    });
}
