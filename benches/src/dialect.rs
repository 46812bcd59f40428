//! What servers that speak something else than SocketCluster understand: the same calls, subscriptions and publishes in the words of
//! Socket.IO and of NATS, so that those servers can be measured as well.

use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

/// Which protocol is spoken inside the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SocketCluster, in the version that [`Shared::version`](crate::client::Shared::version) says.
    SocketCluster,
    /// Socket.IO 4 (Engine.IO 4), with SocketCluster's event names.
    SocketIo,
    /// NATS: channels are subjects. The answer to a call is the answer to a ping behind it.
    Nats,
}

/// What a connection of another protocol keeps.
#[derive(Debug, Default)]
pub struct Foreign {
    /// NATS: the beginning of something.
    stream: BytesMut,
    /// NATS: the calls whose answers are pongs, the oldest first.
    calls: VecDeque<u32>,
    /// Socket.IO: what is to be sent when the namespace is there.
    subscriptions: Vec<String>,
}

/// What a message of another protocol means.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The call of this number is answered; the text has the body of the answer.
    Answer(u32, &'a [u8]),
    /// A publish; the text has its body.
    Publish(&'a [u8]),
    /// To be sent back.
    Reply(String),
    /// The beginning is over, to be sent back: what comes next.
    Begun(Vec<String>),
    /// An error.
    Refused,
}

impl Foreign {
    /// What a connection begins with: messages to send, and how many answers its beginning waits for.
    pub fn begin(&mut self, dialect: Dialect, channels: &[u32]) -> (Vec<String>, u32) {
        if dialect == Dialect::Nats {
            let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n".to_owned();
            for (sid, channel) in (1..).zip(channels) {
                text += &format!("SUB c{channel} {sid}\r\n");
            }
            text += "PING\r\n";
            self.calls.push_back(1);
            return (vec![text], 1);
        }
        self.subscriptions = (2..)
            .zip(channels)
            .map(|(cid, channel)| format!("42{cid}[\"#subscribe\",{{\"channel\":\"c{channel}\"}}]"))
            .collect();
        // The answer to the connection itself counts as that of call 1.
        (Vec::new(), 1 + channels.len() as u32)
    }

    /// A call in the words of the dialect; `None` where it has no such call.
    pub fn call(&mut self, dialect: Dialect, event: &str, data: &str, cid: u32) -> Option<String> {
        if dialect == Dialect::SocketIo {
            return Some(format!("42{cid}[\"{event}\",{data}]"));
        }
        let (channel, body) = data.strip_prefix("{\"channel\":\"")?.strip_suffix('}')?.split_once("\",\"data\":")?;
        (event == "#publish").then(|| {
            self.calls.push_back(cid);
            format!("PUB {channel} {}\r\n{body}\r\nPING\r\n", body.len())
        })
    }

    /// Takes a message of Socket.IO.
    pub fn socket_io<'a>(&mut self, text: &'a str) -> Option<Heard<'a>> {
        match text.as_bytes() {
            [b'0', ..] => Some(Heard::Reply("40".to_owned())),
            [b'2'] => Some(Heard::Reply("3".to_owned())),
            [b'4', b'0', ..] => Some(Heard::Begun(std::mem::take(&mut self.subscriptions))),
            [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"#publish\",") => Some(Heard::Publish(rest)),
            [b'4', b'3', ..] => {
                let (number, data) = text[2..].split_once('[')?;
                Some(Heard::Answer(number.parse().ok()?, data.as_bytes()))
            }
            [b'4', b'4', ..] => Some(Heard::Refused),
            _ => None,
        }
    }

    /// Takes bytes of NATS, which come in any pieces.
    pub fn nats(&mut self, bytes: &[u8], mut heard: impl FnMut(Heard<'_>)) {
        self.stream.extend_from_slice(bytes);
        while let Some(end) = memchr::memchr(b'\n', &self.stream) {
            let line = &self.stream[..end];
            let mut used = end + 1;
            match line {
                [b'M', b'S', b'G', ..] => {
                    let len = line.trim_ascii().rsplit(|&byte| byte == b' ').next();
                    let len: usize = len.and_then(|len| std::str::from_utf8(len).ok()?.parse().ok()).unwrap_or(0);
                    let Some(body) = self.stream.get(used..used + len + 2) else { break };
                    heard(Heard::Publish(body));
                    used += len + 2;
                }
                [b'P', b'I', b'N', b'G', ..] => heard(Heard::Reply("PONG\r\n".to_owned())),
                [b'P', b'O', b'N', b'G', ..] => {
                    if let Some(number) = self.calls.pop_front() {
                        heard(Heard::Answer(number, b""));
                    }
                }
                [b'-', ..] => heard(Heard::Refused),
                _ => {}
            }
            self.stream.advance(used);
        }
        if self.stream.is_empty() {
            self.stream = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_comes_in_any_pieces() {
        let text = b"INFO {}\r\nPING\r\nMSG c1 1 5\r\n\"~x~\"\r\nPONG\r\n";
        for cut in 0..text.len() {
            let mut foreign = Foreign::default();
            foreign.calls.push_back(7);
            let mut all = Vec::new();
            for piece in [&text[..cut], &text[cut..]] {
                foreign.nats(piece, |heard| all.push(format!("{heard:?}")));
            }
            assert_eq!(all.len(), 3, "{all:?}");
            assert!(all[1].starts_with("Publish") && all[2].starts_with("Answer(7"), "{all:?}");
        }
    }

    #[test]
    fn calls_in_other_words() {
        let mut foreign = Foreign::default();
        let data = "{\"channel\":\"c5\",\"data\":\"~b~\"}";
        assert_eq!(
            foreign.call(Dialect::Nats, "#publish", data, 9).as_deref(),
            Some("PUB c5 5\r\n\"~b~\"\r\nPING\r\n")
        );
        assert_eq!(foreign.call(Dialect::Nats, "echo", "\"~b~\"", 9), None);
        let call = foreign.call(Dialect::SocketIo, "#publish", data, 9).unwrap();
        assert_eq!(call, "429[\"#publish\",{\"channel\":\"c5\",\"data\":\"~b~\"}]");
        assert_eq!(foreign.socket_io("439[\"~b~\"]"), Some(Heard::Answer(9, b"\"~b~\"]")));
        assert_eq!(foreign.socket_io("0{\"sid\":\"x\"}"), Some(Heard::Reply("40".to_owned())));
    }
}
