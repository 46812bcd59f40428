//! The `data` of a packet: JSON text that becomes a value only where somebody asks for one.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use sc_protocol::ScError;

/// The data of an event, a publish or a subscription: JSON text, or absent (which is not `null`).
///
/// It travels as the bytes that came; [`get`](Self::get) parses it into the type that a handler wants.
///
/// ```
/// use sc_server::Data;
///
/// let data = Data::from_json("[1, 2]");
/// assert_eq!(data.get::<(u32, u32)>().unwrap(), (1, 2));
/// assert!(data.get::<String>().is_err());
/// assert_eq!(Data::absent().get::<Option<u32>>().unwrap(), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data<'a>(Option<Cow<'a, str>>);

impl<'a> Data<'a> {
    /// No data at all.
    pub const fn absent() -> Self {
        Self(None)
    }

    /// Data that is known to be JSON text.
    pub const fn from_json(json: &'a str) -> Self {
        Self(Some(Cow::Borrowed(json)))
    }

    pub(crate) fn from_raw(raw: Option<&'a str>) -> Self {
        Self(raw.map(Cow::Borrowed))
    }

    /// Data from any value that serde can write. Error: the value's own serialisation error, as an `InvalidArgumentsError`.
    pub fn of(value: &(impl Payload + ?Sized)) -> Result<Data<'static>, ScError> {
        Ok(Data(value.to_json()?.map(|json| Cow::Owned(json.into_owned()))))
    }

    /// The JSON text as it came; `None` when absent.
    pub fn json(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The data as a `T`. Absent data reads as `null`. Error: an `InvalidArgumentsError` that says what did not fit.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T, ScError> {
        serde_json::from_str(self.json().unwrap_or("null"))
            .map_err(|error| ScError::new("InvalidArgumentsError", format!("Invalid data: {error}")))
    }

    /// Puts another value in its place.
    pub fn set(&mut self, value: &(impl Payload + ?Sized)) -> Result<(), ScError> {
        *self = Data::of(value)?;
        Ok(())
    }

    /// The same data, owned.
    pub fn into_owned(self) -> Data<'static> {
        Data(self.0.map(|json| Cow::Owned(json.into_owned())))
    }
}

/// What can be sent as data: everything that serde can write, and [`Data`] itself, which is passed on as it came.
///
/// ```
/// use sc_server::{Data, Payload};
///
/// fn sent(payload: impl Payload) -> Option<String> {
///     Data::of(&payload).unwrap().json().map(str::to_owned)
/// }
/// assert_eq!(sent(vec![1, 2]).as_deref(), Some("[1,2]"));
/// assert_eq!(sent(()).as_deref(), Some("null"));
/// assert_eq!(sent(Data::from_json("[1,  2]")).as_deref(), Some("[1,  2]"));
/// assert_eq!(sent(Data::absent()), None);
/// ```
pub trait Payload: sealed::Sealed {}

impl<T: sealed::Sealed + ?Sized> Payload for T {}

mod sealed {
    use super::{Cow, Data, ScError, Serialize, to_json};

    pub trait Sealed {
        /// The JSON text; `None` for no data at all.
        fn to_json(&self) -> Result<Option<Cow<'_, str>>, ScError>;
    }

    impl<T: Serialize + ?Sized> Sealed for T {
        fn to_json(&self) -> Result<Option<Cow<'_, str>>, ScError> {
            to_json(self).map(|json| Some(Cow::Owned(json)))
        }
    }

    impl Sealed for Data<'_> {
        fn to_json(&self) -> Result<Option<Cow<'_, str>>, ScError> {
            Ok(self.json().map(Cow::Borrowed))
        }
    }
}

/// JSON text of a value, or the error that an application sees when its value cannot be written.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<String, ScError> {
    serde_json::to_string(value)
        .map_err(|error| ScError::new("InvalidArgumentsError", format!("Unserialisable data: {error}")))
}
