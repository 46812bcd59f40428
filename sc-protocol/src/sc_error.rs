//! Errors as SocketCluster sends them.
//!
//! On the wire an error is an object with a `message`, mostly a `name` and perhaps other members, or a bare string, or
//! any other JSON value: whatever a handler handed to its callback in JavaScript (PROTOCOL: sc-errors' dehydrate and
//! hydrate). [`ScError`] holds any of them, writes the message first, then the name, then the rest in order, and reads
//! everything back.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::Value;

use crate::json;
use crate::limits::ERROR_MEMBERS_MAX;

mod classes;

/// An error of this server, of its application or of the peer; one pointer large.
///
/// ```
/// use sc_protocol::ScError;
///
/// let error = ScError::new("QuotaError", "Too many rooms").with("limit", 5);
/// let mut out = bytes::BytesMut::new();
/// error.write(&mut out);
/// assert_eq!(out, r#"{"message":"Too many rooms","name":"QuotaError","limit":5}"#);
/// assert_eq!(ScError::parse(r#"{"message":"Too many rooms","name":"QuotaError","limit":5}"#), error);
/// ```
#[derive(Clone, PartialEq)]
pub struct ScError(Box<Repr>);

#[derive(Clone, PartialEq)]
enum Repr {
    /// `"text"`
    Text(String),
    /// No string and no object.
    Json(Value),
    /// An object. `name` and `message` are here only if they are strings, else among the props.
    Object { name: Option<Cow<'static, str>>, message: Option<Cow<'static, str>>, props: Vec<(String, Value)> },
    /// What no [`Value`] can hold (deeper than 127 levels, or with a lone surrogate), or an object of more members than
    /// any error has, which a peer could make us compare pair by pair: kept as it came.
    Raw { raw: String, name: Option<String>, message: String },
    /// An `InternalError` with what is not to leave this process.
    Internal { cause: String },
}

/// Name and message of an error whose cause is nobody else's business.
const INTERNAL: (&str, &str) = ("InternalError", "Internal server error");

impl ScError {
    /// An error with a class name and a message, like SocketCluster's own.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::object(Some(name.into()), Some(message.into()))
    }

    /// `{"message":…}`: what a plain `new Error(message)` becomes, whose class name stays behind.
    #[must_use]
    pub fn message_only(message: impl Into<Cow<'static, str>>) -> Self {
        Self::object(None, Some(message.into()))
    }

    /// A bare string.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self(Box::new(Repr::Text(text.into())))
    }

    /// An `InternalError` that keeps its cause for the log: the peer gets name and message only.
    #[must_use]
    pub fn internal_because(cause: impl fmt::Display) -> Self {
        Self(Box::new(Repr::Internal { cause: cause.to_string() }))
    }

    /// What [`internal_because`](Self::internal_because) was given.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match &*self.0 {
            Repr::Internal { cause } => Some(cause),
            _ => None,
        }
    }

    /// Any JSON value; a string or an object gives the same as [`text`](Self::text) or the object's members.
    ///
    /// `null`, `false`, `0` and `""` are no errors to a JavaScript peer: it takes the answer for a success.
    #[must_use]
    pub fn json(value: Value) -> Self {
        match value {
            Value::String(text) => Self::text(text),
            Value::Object(mut members) => {
                let mut field = |key| match members.get_mut(key) {
                    Some(Value::String(text)) => {
                        let text = std::mem::take(text);
                        members.remove(key);
                        Some(Cow::Owned(text))
                    }
                    _ => None,
                };
                let (name, message) = (field("name"), field("message"));
                Self(Box::new(Repr::Object { name, message, props: members.into_iter().collect() }))
            }
            other => Self(Box::new(Repr::Json(other))),
        }
    }

    /// Adds or replaces a member; `name` and `message` too. Something JSON cannot express (a map whose keys are no
    /// strings) becomes `null`. A string error turns into an object with that message, any other value into an object
    /// without one.
    #[must_use]
    pub fn with(self, key: impl Into<String>, value: impl Serialize) -> Self {
        self.put(key.into(), serde_json::to_value(value).unwrap_or(Value::Null))
    }

    /// Reads what a peer sent as an error; nothing is lost. Text that is no JSON is taken as a string error.
    ///
    /// An error with more than [`ERROR_MEMBERS_MAX`] members, with values nested deeper than 127 levels or with a lone
    /// surrogate is kept as text: it has its name and message and is written as it came, but [`props`](Self::props) is
    /// empty.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        if json::kind(raw) == json::Kind::Object {
            return Self::parse_object(raw).unwrap_or_else(|| Self::keep(raw));
        }
        serde_json::from_str::<Value>(raw).map_or_else(|_| Self::keep(raw), Self::json)
    }

    /// Appends the error as JSON: message, name, then the other members in order.
    pub fn write(&self, out: &mut BytesMut) {
        match &*self.0 {
            Repr::Text(text) => json::write_string(out, text),
            Repr::Json(value) => write_value(out, value),
            Repr::Raw { raw, .. } => out.put_slice(raw.as_bytes()),
            Repr::Internal { .. } => Self::internal().write(out),
            Repr::Object { name, message, props } => {
                let mut separator = b'{';
                let mut key = |out: &mut BytesMut, key: &str| {
                    out.put_u8(std::mem::replace(&mut separator, b','));
                    json::write_string(out, key);
                    out.put_u8(b':');
                };
                if let Some(message) = message {
                    key(out, "message");
                    json::write_string(out, message);
                }
                if let Some(name) = name {
                    key(out, "name");
                    json::write_string(out, name);
                }
                for (prop, value) in props {
                    key(out, prop);
                    write_value(out, value);
                }
                if separator == b'{' {
                    out.put_u8(b'{');
                }
                out.put_u8(b'}');
            }
        }
    }

    /// The error as JSON text, see [`write`](Self::write).
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = BytesMut::new();
        self.write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The class name, if the error has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &*self.0 {
            Repr::Object { name, .. } => name.as_deref(),
            Repr::Raw { name, .. } => name.as_deref(),
            Repr::Internal { .. } => Some(INTERNAL.0),
            Repr::Text(_) | Repr::Json(_) => None,
        }
    }

    /// The message, or the text of a string error; empty if there is none.
    #[must_use]
    pub fn message(&self) -> &str {
        match &*self.0 {
            Repr::Object { message, .. } => message.as_deref().unwrap_or_default(),
            Repr::Raw { message, .. } => message,
            Repr::Internal { .. } => INTERNAL.1,
            Repr::Text(text) => text,
            Repr::Json(_) => "",
        }
    }

    /// A member other than name and message, as [`props`](Self::props).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.props().find(|(prop, _)| *prop == key).map(|(_, value)| value)
    }

    /// The members other than name and message, in order. (A `name` or `message` that is no string is among them. None
    /// of an error that [`parse`](Self::parse) kept as text.)
    pub fn props(&self) -> impl Iterator<Item = (&str, &Value)> {
        let props = match &*self.0 {
            Repr::Object { props, .. } => props.as_slice(),
            _ => &[],
        };
        props.iter().map(|(key, value)| (key.as_str(), value))
    }

    fn object(name: Option<Cow<'static, str>>, message: Option<Cow<'static, str>>) -> Self {
        Self(Box::new(Repr::Object { name, message, props: Vec::new() }))
    }

    fn put(mut self, key: String, value: Value) -> Self {
        match &*self.0 {
            Repr::Object { .. } => {}
            // The rest of what was too deep or strange for a Value stays behind: the caller makes a new error of it.
            Repr::Raw { name, message, .. } => {
                self = Self::object(name.clone().map(Cow::Owned), Some(Cow::Owned(message.clone())));
            }
            Repr::Internal { .. } => self = Self::internal(),
            Repr::Text(text) => self = Self::message_only(text.clone()),
            Repr::Json(_) => self = Self::object(None, None),
        }
        if let Repr::Object { name, message, props } = &mut *self.0 {
            let field = match key.as_str() {
                "name" => Some(name),
                "message" => Some(message),
                _ => None,
            };
            // A second value for a key replaces the first, also if it is of another type.
            let place = props.iter().position(|(prop, _)| *prop == key);
            match (field, value, place) {
                (Some(field), Value::String(text), place) => {
                    *field = Some(Cow::Owned(text));
                    if let Some(place) = place {
                        props.remove(place);
                    }
                }
                (field, value, place) => {
                    if let Some(field) = field {
                        *field = None;
                    }
                    match place {
                        Some(place) => props[place].1 = value,
                        None => props.push((key, value)),
                    }
                }
            }
        }
        self
    }

    /// `None`: a member is not for a [`Value`], or `raw` is no JSON.
    fn parse_object(raw: &str) -> Option<Self> {
        let mut error = Some(Self::object(None, None));
        let mut members = 0;
        json::for_each_member(raw, |key, value| {
            members += 1;
            if members > ERROR_MEMBERS_MAX {
                error = None;
            }
            if error.is_none() {
                return;
            }
            let value = serde_json::from_str(value).ok();
            // A lone surrogate in a key would be lost in it.
            let key = serde_json::from_str(key).ok();
            error = error.take().zip(key.zip(value)).map(|(error, (key, value))| error.put(key, value));
        })?;
        error
    }

    fn keep(raw: &str) -> Self {
        let text = |token: Option<&str>| token.and_then(json::string).map(Cow::into_owned);
        match json::validate(raw) {
            None => Self::text(raw),
            Some(json::Kind::Object) => {
                let [name, message] = json::object(raw, ["name", "message"]).unwrap_or_default();
                let message = text(message).unwrap_or_default();
                Self(Box::new(Repr::Raw { raw: raw.to_owned(), name: text(name), message }))
            }
            Some(_) => {
                let message = text(Some(raw.trim_ascii())).unwrap_or_default();
                Self(Box::new(Repr::Raw { raw: raw.to_owned(), name: None, message }))
            }
        }
    }
}

impl fmt::Display for ScError {
    /// `name: message` as JavaScript prints it, without a name `message`, without both the JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.message()) {
            (Some(name), "") => f.write_str(name),
            (Some(name), message) => write!(f, "{name}: {message}"),
            (None, "") => f.write_str(&self.to_json()),
            (None, message) => f.write_str(message),
        }
    }
}

impl fmt::Debug for ScError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScError({})", self.to_json())
    }
}

impl std::error::Error for ScError {}

fn write_value(out: &mut BytesMut, value: &Value) {
    // Writing a Value fails only if its sink does, and this one grows.
    let written = serde_json::to_writer((&mut *out).writer(), value);
    debug_assert!(written.is_ok(), "memory takes every byte");
}
