//! Real processes that are killed, stopped and replaced under load: who is disconnected, what is lost, and how long it takes
//! until all are served again.
//!
//! `cargo test -p sc-cluster --test faults` prints the figures; `SC_TEST_LONG=1` lets the crashes go on for ten minutes.

mod app;
mod client;
mod crowd;
mod hangs;
mod kills;
mod programs;
mod reload;
mod scarce;
mod server;
mod slow;
mod talk;
mod wear;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Ok(options) = std::env::var(app::OPTIONS_ENV) {
        return app::run(&options);
    }
    let mut arguments = Arguments::from_args();
    // Each of them wants the whole machine.
    arguments.test_threads = Some(1);
    let trial = |name: &'static str, test: fn()| {
        Trial::test(name, move || {
            let begin = std::time::Instant::now();
            test();
            println!("({name}: {:?})", begin.elapsed());
            Ok(())
        })
    };
    let trials = vec![
        trial("a_killed_worker_takes_only_its_clients", kills::worker),
        trial("a_killed_broker_disconnects_nobody", kills::broker),
        trial("a_killed_master_leaves_nothing_behind", kills::master),
        trial("a_stopped_worker_is_noticed_and_replaced", hangs::worker),
        trial("a_reload_refuses_nobody_and_loses_nothing_acknowledged", reload::under_load),
        trial("the_number_of_workers_changes_under_load", reload::more_and_fewer),
        trial("a_master_without_descriptors_goes_on", scarce::in_the_master),
        trial("workers_without_descriptors_go_on", scarce::in_the_workers),
        trial("master_and_workers_talk", talk::messages),
        trial("what_goes_wrong_is_in_one_log_with_its_place", talk::panics),
        trial("the_log_can_be_json", talk::json),
        trial("a_client_that_never_reads_costs_its_limit", slow::never_reads),
        trial("a_client_that_falls_behind_comes_back", slow::falls_behind),
        trial("a_worker_that_grows_too_large_is_replaced", slow::grows),
        trial("another_program_can_be_the_worker", programs::controller),
        trial("a_worker_of_another_version_is_one_clear_error", programs::another_version),
        trial("children_run_as_another_user", programs::another_user)
            .with_ignored_flag(!programs::is_root() && std::env::var_os("SC_TEST_STRICT").is_none()),
        trial("many_crashes_leave_nothing_behind", wear::crashes),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}
