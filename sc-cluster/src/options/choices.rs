//! Options with few possible values.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What happens to a client that reads so slowly that more than `maxBackpressure` waits for it. In any case what waits is written once
/// more before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackpressurePolicy {
    /// It is disconnected, and may come back.
    #[default]
    Disconnect,
    /// The oldest messages of channels are dropped. If what else waits is too much, it is disconnected.
    DropOldest,
    /// Of each channel the latest message is kept. If what is left is too much, it is disconnected.
    KeepLatest,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object on each line, for programs.
    Json,
}

/// A user of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum User {
    /// By number.
    Id(u32),
    /// By name, as in `/etc/passwd`.
    Name(String),
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// SocketCluster's default is `false`.
pub(super) fn user<'de, D: Deserializer<'de>>(from: D) -> Result<Option<User>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null | Value::Bool(false) => Ok(None),
        value => User::deserialize(value)
            .map(Some)
            .map_err(|_| serde::de::Error::custom("The downgradeToUser option must be a user's name or number")),
    }
}
