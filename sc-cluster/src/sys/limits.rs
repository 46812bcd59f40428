//! How many descriptors this process may hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open descriptors to the hard one, which children inherit, and answers what holds then.
///
/// The soft limit is 1024 on most systems for the sake of programs that use `select`; a server that kept it would turn
/// away its 1025th client.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Refused where a sandbox forbids it; the old limit holds then.
    let _ = setrlimit(Resource::Nofile, wanted);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
