//! What applications send and get: JSON text, and tokens.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use sc_protocol::ScError;

/// The data of an event, an answer or a publish: the JSON text that the peer sent, or nothing at all (which JavaScript
/// calls `undefined`, and is not `null`).
///
/// A clone shares the text, so a message that goes to many receivers is there once.
///
/// ```
/// use sc_client::Data;
///
/// let data = Data::from_json(r#"{"name":"ann","age":7}"#);
/// #[derive(serde::Deserialize)]
/// struct Person { name: String, age: u8 }
/// let ann: Person = data.parse()?;
/// assert_eq!((ann.name.as_str(), ann.age), ("ann", 7));
/// assert_eq!(Data::absent().parse::<Option<u8>>()?, None);
/// # Ok::<(), sc_client::ScError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data(Option<Arc<str>>);

impl Data {
    /// No data.
    #[must_use]
    pub const fn absent() -> Self {
        Self(None)
    }

    /// Data from text that is JSON already; it is not checked here.
    #[must_use]
    pub fn from_json(json: &str) -> Self {
        Self(Some(json.into()))
    }

    pub(crate) fn lent(json: Option<&str>) -> Self {
        Self(json.map(Into::into))
    }

    /// The JSON text, `None` if there is no data.
    #[must_use]
    pub fn json(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The data as a type of the application. No data is read as `null`.
    ///
    /// # Errors
    /// `InvalidMessageError`: the text is not that type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ScError> {
        let json = self.json().unwrap_or("null");
        serde_json::from_str(json).map_err(|error| ScError::invalid_message(format!("Unexpected data: {error}")))
    }
}

impl fmt::Display for Data {
    /// The JSON text; nothing if there is no data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json().unwrap_or_default())
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json().unwrap_or("absent"))
    }
}

/// A value of the application as JSON text.
///
/// # Errors
/// `InvalidArgumentsError`: JSON cannot express it (a map whose keys are no strings).
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, ScError> {
    serde_json::to_string(value).map_err(|error| ScError::new("InvalidArgumentsError", error.to_string()))
}

/// A signed auth token (a JWT). It is a secret: printing it for debugging shows nothing of it.
///
/// ```
/// let token = sc_client::Token::from("eyJhbGciOiJIUzI1NiJ9.eyJ1c2VybmFtZSI6ImFubiJ9.c2lnbmF0dXJl");
/// assert_eq!(token.claims().unwrap().json(), Some(r#"{"username":"ann"}"#));
/// assert_eq!(format!("{token:?}"), "Token(…)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The token as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the token says, *without* any check of its signature: good for showing a name, not for trusting it.
    /// `None`: it is not a JWT.
    #[must_use]
    pub fn claims(&self) -> Option<Data> {
        let payload = self.0.split('.').nth(1)?;
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
        sc_protocol::json::validate(&json)?;
        Some(Data::from_json(&json))
    }
}

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self(token.into())
    }
}

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What can be sent: anything that serde can write as JSON, and [`Data`] as it is.
pub trait Payload {
    /// The JSON text; `None` sends no data at all.
    ///
    /// # Errors
    /// `InvalidArgumentsError`: JSON cannot express it.
    fn to_json(&self) -> Result<Option<String>, ScError>;
}

impl<T: Serialize> Payload for T {
    fn to_json(&self) -> Result<Option<String>, ScError> {
        to_json(self).map(Some)
    }
}

impl Payload for Data {
    fn to_json(&self) -> Result<Option<String>, ScError> {
        match self.json() {
            Some(json) if sc_protocol::json::validate(json).is_none() => {
                Err(ScError::new("InvalidArgumentsError", "The data is no JSON text"))
            }
            json => Ok(json.map(str::to_owned)),
        }
    }
}

/// What can be got: any type that serde can read, and [`Data`] as it is.
pub trait FromData: Sized {
    /// The value.
    ///
    /// # Errors
    /// `InvalidMessageError`: the data is not of that type.
    fn from_data(data: Data) -> Result<Self, ScError>;
}

impl<T: DeserializeOwned> FromData for T {
    fn from_data(data: Data) -> Result<Self, ScError> {
        data.parse()
    }
}

impl FromData for Data {
    fn from_data(data: Data) -> Result<Self, ScError> {
        Ok(data)
    }
}
