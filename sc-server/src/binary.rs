//! Bytes inside JSON, as SocketCluster's formatter puts them there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeStruct, Serializer};

/// Bytes as part of the data of a packet. SC writes a `Buffer` or an `ArrayBuffer` as `{"base64":true,"data":"…"}`, with
/// padding, at any depth; the receiver gets that object and decodes it itself.
///
/// ```
/// use sc_server::{Binary, Data};
///
/// let data = Data::of(&[Binary(b"\x00\x01")])?;
/// assert_eq!(data.json(), Some(r#"[{"base64":true,"data":"AAE="}]"#));
/// # Ok::<(), sc_server::ScError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary<'a>(pub &'a [u8]);

impl Serialize for Binary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Binary", 2)?;
        object.serialize_field("base64", &true)?;
        object.serialize_field("data", &STANDARD.encode(self.0))?;
        object.end()
    }
}
