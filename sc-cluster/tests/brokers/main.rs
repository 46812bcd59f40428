//! Brokers as real processes: the shared data, the application's code in them, and what is left when one dies.

mod app;
mod client;
mod named;
#[path = "../faults/server.rs"]
#[allow(dead_code, reason = "the fault tests use more of it")]
mod server;
mod shared;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Ok(options) = std::env::var(app::OPTIONS_ENV) {
        return app::run(&options);
    }
    let mut arguments = Arguments::from_args();
    // Each has a cluster of its own.
    arguments.test_threads = Some(2);
    let trial = |name: &'static str, test: fn()| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let trials = vec![
        trial("what_one_worker_sets_another_gets", shared::set_and_get),
        trial("a_value_goes_when_its_time_is_over", shared::expiry),
        trial("queries_and_messages_reach_the_controller", shared::controller),
        trial("brokers_and_the_master_talk", shared::master),
        trial("a_controller_that_panics_costs_one_answer", shared::panics),
        trial("a_killed_worker_leaves_its_query", shared::death),
        trial("a_killed_broker_loses_its_data_and_says_so", shared::broker_killed),
        trial("who_proves_the_secret_is_linked_by_name", named::peers),
        trial("without_a_secret_no_broker_listens", named::none_by_default),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
