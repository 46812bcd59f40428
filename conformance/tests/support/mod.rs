//! What tests with outside programs have in common: the server under test, packages of other ecosystems, and skipping.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod packages;
pub mod process;
pub mod server;
pub mod wire;

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

/// How long an outside program may take for anything before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A test that needs these programs: shown as ignored where one is missing, unless `SC_TEST_STRICT=1` is set.
pub fn trial(
    name: impl Into<String>,
    programs: &[&str],
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    Trial::test(name, test).with_ignored_flag(!can_run(programs))
}

/// Whether a test that needs these programs is run.
pub fn can_run(programs: &[&str]) -> bool {
    is_set("SC_TEST_STRICT") || programs.iter().all(|program| is_there(program))
}

/// Whether the long form of the tests is asked for.
pub fn is_long() -> bool {
    is_set("SC_TEST_LONG")
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == "1")
}

fn is_there(program: &str) -> bool {
    let mut version = Command::new(program);
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}
