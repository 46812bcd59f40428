//! The one corner in which this crate talks to the kernel: thin safe wrappers over `rustix` and `socket2`.
//!
//! Descriptors leave this folder as `OwnedFd`, `BorrowedFd` or a typed socket, never as a bare number.

pub(crate) mod entropy;
pub(crate) mod fd_pass;
pub(crate) mod limits;
pub(crate) mod listen;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod user;
