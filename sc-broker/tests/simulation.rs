//! Random histories: what holds in all of them. A failing seed is in the panic's message and replays exactly.

mod rig;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rig::Rig;

const SEEDS: u64 = 300;
const STEPS: usize = 1500;

fn run(seed: u64, hash_seed: u64) -> Rig {
    let mut rig = Rig::new(seed, hash_seed);
    for step in 0..STEPS {
        rig.step();
        if step % 500 == 499 {
            rig.settle();
        }
    }
    rig.check_serving();
    rig
}

#[test]
fn what_is_promised_holds_in_random_histories() {
    let (mut counts, mut overloads) = ([0usize; 4], 0);
    for seed in 0..SEEDS {
        match catch_unwind(AssertUnwindSafe(|| run(seed, !seed))) {
            Ok(rig) => {
                rig.answers.values().flatten().for_each(|&answer| counts[answer as usize] += 1);
                overloads += rig.overloads;
            }
            Err(panic) => {
                eprintln!("seed {seed}");
                resume_unwind(panic);
            }
        }
    }
    let [published, lost, refused, refused_there] = counts;
    assert!(published > lost + refused + refused_there, "most go through, else little was tested: {counts:?}");
    assert!(lost > 100 && refused > 100 && refused_there > 100 && overloads > 100, "{counts:?}, {overloads}");
}

#[test]
fn the_seed_of_the_hash_tables_is_not_to_be_seen_on_the_wire() {
    for seed in 0..20 {
        assert_eq!(run(seed, 1).digest, run(seed, u64::MAX / 3).digest, "seed {seed}");
    }
}
