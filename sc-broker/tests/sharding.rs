//! Where channels live must never change: workers and brokers of different builds meet on it.

use proptest::prelude::*;
use sc_broker::shard;

#[test]
fn the_mapping_is_the_same_in_every_version() {
    let names = ["", "a", "news", "sample", "room/12", "12345678", "a channel with a long name", "Kanäle/ß"];
    let of = |brokers| names.map(|name| shard(name, brokers));
    assert_eq!(of(0), [0; 8]);
    assert_eq!(of(1), [0; 8]);
    assert_eq!(of(2), GOLDEN_2);
    assert_eq!(of(7), GOLDEN_7);
}

const GOLDEN_2: [u32; 8] = [1, 1, 0, 0, 1, 1, 1, 0];
const GOLDEN_7: [u32; 8] = [6, 6, 3, 2, 4, 3, 4, 0];

proptest! {
    #[test]
    fn every_name_has_a_broker(name in any::<String>(), brokers in 1u32..2000) {
        prop_assert!(shard(&name, brokers) < brokers);
    }

    #[test]
    fn names_that_differ_in_padding_are_told_apart(name in "[a-z]{0,20}") {
        let padded = format!("{name}\0");
        prop_assert_ne!(shard(&name, u32::MAX), shard(&padded, u32::MAX));
    }
}
