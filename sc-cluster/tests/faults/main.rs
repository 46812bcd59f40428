//! Real processes that are killed, stopped and replaced under load: who is disconnected, what is lost, and how long it takes
//! until all are served again.
//!
//! `cargo test -p sc-cluster --test faults` prints the figures; `SC_TEST_LONG=1` lets the crashes go on for ten minutes.

mod app;
mod client;
mod crowd;
mod kills;
mod server;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Ok(options) = std::env::var(app::OPTIONS_ENV) {
        return app::run(&options);
    }
    let mut arguments = Arguments::from_args();
    // Each of them wants the whole machine.
    arguments.test_threads = Some(1);
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("a_killed_worker_takes_only_its_clients", kills::worker),
        trial("a_killed_broker_disconnects_nobody", kills::broker),
        trial("a_killed_master_leaves_nothing_behind", kills::master),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
