//! A JSON value whose objects keep their order (serde_json's sort their keys), so that what is written has it too.

use std::fmt;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{length, written};
use crate::sc_error::ScError;

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Node {
    pub(super) fn parse(json: &str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        matches!(self, Self::Text(own) if own == text)
    }

    /// The members under these names; null for those that are not there.
    pub(super) fn members<const N: usize>(self, names: [&str; N]) -> [Self; N] {
        let mut members = if let Self::Object(members) = self { members } else { Vec::new() };
        names.map(|name| match members.iter().rposition(|(key, _)| key == name) {
            Some(at) => members.swap_remove(at).1,
            None => Self::Null,
        })
    }

    pub(super) fn write(&self, out: &mut impl Write) -> Result<(), ScError> {
        match self {
            Self::Null => written(rmp::encode::write_nil(out)),
            Self::Bool(value) => written(rmp::encode::write_bool(out, *value)),
            Self::Number(number) => write_number(out, *number),
            Self::Text(text) => {
                length(text.len())?;
                written(rmp::encode::write_str(out, text))
            }
            Self::Array(items) => {
                written(rmp::encode::write_array_len(out, length(items.len())?))?;
                items.iter().try_for_each(|item| item.write(out))
            }
            Self::Object(members) => {
                if let Some(bytes) = bytes_of(members) {
                    length(bytes.len())?;
                    return written(rmp::encode::write_bin(out, &bytes));
                }
                written(rmp::encode::write_map_len(out, length(members.len())?))?;
                members.iter().try_for_each(|(key, value)| {
                    written(rmp::encode::write_str(out, key))?;
                    value.write(out)
                })
            }
        }
    }
}

fn write_number(out: &mut impl Write, number: f64) -> Result<(), ScError> {
    if number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) {
        written(rmp::encode::write_sint(out, number as i64))
    } else {
        written(rmp::encode::write_f64(out, number))
    }
}

/// The bytes that SC's formatter put into JSON, if it is that.
fn bytes_of(members: &[(String, Node)]) -> Option<Vec<u8>> {
    match members {
        [(base64, Node::Bool(true)), (data, Node::Text(text))] if base64 == "base64" && data == "data" => {
            STANDARD.decode(text).ok()
        }
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(member) = members.next_entry()? {
            list.push(member);
        }
        Ok(Node::Object(list))
    }
}
