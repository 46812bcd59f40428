//! The packs under `conformance/transcripts/`: what clients and servers said to each other.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One recorded run of a scenario against a real server.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) options: Map<String, Value>,
    /// Whether the client was a real one, recorded by a proxy.
    pub(crate) proxied: bool,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Head {
    recording: String,
    #[serde(default)]
    options: Map<String, Value>,
    client: Option<String>,
}

/// Something that went over a connection, or that the recorder did.
#[derive(Debug, Deserialize)]
pub(crate) struct Line {
    /// Milliseconds since the recording began.
    pub(crate) t: u64,
    pub(crate) conn: String,
    pub(crate) from: From,
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) data: Value,
    /// A long text, as pieces and how often each is repeated.
    #[serde(default)]
    parts: Vec<(String, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum From {
    Client,
    Server,
    Recorder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Http,
    Text,
    Binary,
    Close,
    /// The client dropped its TCP connection.
    Vanish,
    /// The server's process died.
    Crash,
    Note,
}

impl Line {
    pub(crate) fn text(&self) -> String {
        if self.parts.is_empty() {
            return self.data.as_str().expect("a text line has a string as its data").to_owned();
        }
        self.parts.iter().map(|(piece, times)| piece.repeat(*times)).collect()
    }

    /// Code and reason of a close line.
    pub(crate) fn close(&self) -> (u16, &str) {
        let code = self.data["code"].as_u64().expect("a close line has a code");
        (u16::try_from(code).expect("a close code has 16 bits"), self.data["reason"].as_str().unwrap_or_default())
    }
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("transcripts")
}

/// All recordings of one server version.
pub(crate) fn load(version: &str) -> Vec<Recording> {
    let path = folder().join(format!("{version}.jsonl"));
    let pack = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut recordings: Vec<Recording> = Vec::new();
    for (number, text) in pack.lines().enumerate() {
        if text.starts_with("{\"recording\"") {
            let Head { recording: name, options, client } =
                serde_json::from_str(text).expect("the head of a recording");
            recordings.push(Recording { name, options, proxied: client.is_some(), lines: Vec::new() });
        } else {
            let line = serde_json::from_str(text).unwrap_or_else(|error| panic!("{version}:{}: {error}", number + 1));
            recordings.last_mut().expect("a pack begins with a head").lines.push(line);
        }
    }
    recordings
}
