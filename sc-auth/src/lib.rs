#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod algorithm;
mod compact;
mod engine;
mod error;
mod js;
mod jwt;
mod key;
mod state;

pub use algorithm::Algorithm;
pub use engine::{AuthEngine, Claims};
pub use error::{AuthError, Expiry};
pub use jwt::{DEFAULT_EXPIRY_SECS, JwtConfig, JwtEngine, VERIFY_KEYS_MAX};
pub use key::{Key, KeyError, VerifyKey};
pub use state::AuthState;
