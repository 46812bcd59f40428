//! Where a value is.

use std::fmt;

use bytes::BytesMut;
use sc_protocol::json;
use sc_protocol::sc_error::ScError;

use crate::error::{invalid, over_limit};
use crate::limits::{KEY_BYTES_MAX, KEY_DEPTH_MAX};

/// The path of a value in the shared data: at least one name. An element of a list has its index as name.
///
/// ```
/// use sc_broker::Key;
///
/// assert_eq!(Key::from("visitors").names(), ["visitors".into()]);
/// assert_eq!(Key::from(["users", "bob"]).at(3).to_json(), r#"["users","bob","3"]"#);
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<Box<str>>);

impl Key {
    /// The names from the outermost on.
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.0
    }

    /// The value under that name, or index, inside this one.
    #[must_use]
    pub fn at(mut self, name: impl ToString) -> Self {
        self.0.push(name.to_string().into());
        self
    }

    /// As it crosses a link: a JSON array of strings.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = BytesMut::new();
        for (place, name) in self.0.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b"[" } else { b"," });
            json::write_string(&mut out, name);
        }
        out.extend_from_slice(b"]");
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// An `InvalidArgumentsError`: no array of strings, or an empty one. A `BrokerError` that names the limit: too many names
    /// ([`KEY_DEPTH_MAX`]), or too long ones ([`KEY_BYTES_MAX`]).
    pub fn parse(text: &str) -> Result<Self, ScError> {
        let names = json::array(text).ok_or_else(|| invalid("A key is a list of names"))?;
        let mut key = Self(Vec::new());
        for name in names {
            let name = json::string(name).ok_or_else(|| invalid("A key is a list of names"))?;
            key.0.push(name.into());
            if key.0.len() > KEY_DEPTH_MAX {
                break;
            }
        }
        key.check().map(|()| key)
    }

    /// Whether the key can be used: see [`parse`](Self::parse) for what is wrong if not.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn check(&self) -> Result<(), ScError> {
        if self.0.is_empty() {
            return Err(invalid("A key has at least one name"));
        }
        if self.0.len() > KEY_DEPTH_MAX {
            return Err(over_limit("The key has too many names", "KEY_DEPTH_MAX", KEY_DEPTH_MAX));
        }
        if self.bytes() > KEY_BYTES_MAX {
            return Err(over_limit("The key is too long", "KEY_BYTES_MAX", KEY_BYTES_MAX));
        }
        Ok(())
    }

    /// Bytes of all names together.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|name| name.len()).sum()
    }

    /// The name that decides which broker keeps the value.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.first().map_or("", |name| name)
    }
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        Self(vec![name.into()])
    }
}

impl From<String> for Key {
    fn from(name: String) -> Self {
        Self(vec![name.into()])
    }
}

impl From<&String> for Key {
    fn from(name: &String) -> Self {
        Self::from(name.as_str())
    }
}

impl From<&[&str]> for Key {
    fn from(names: &[&str]) -> Self {
        Self(names.iter().map(|name| Box::from(*name)).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Key {
    fn from(names: [&str; N]) -> Self {
        Self::from(names.as_slice())
    }
}

impl From<&Self> for Key {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}
