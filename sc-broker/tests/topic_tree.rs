//! A topic tree against the simplest thing that could be one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sc_broker::TopicTree;
use sc_broker::topic_tree::{Subscribed, Unsubscribed};

#[derive(Debug, Clone)]
enum Step {
    Subscribe(u8, u8),
    Unsubscribe(u8, u8),
    UnsubscribeAll(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, 0..6u8).prop_map(|(channel, who)| Step::Subscribe(channel, who)),
        4 => (0..12u8, 0..6u8).prop_map(|(channel, who)| Step::Unsubscribe(channel, who)),
        1 => (0..6u8).prop_map(Step::UnsubscribeAll),
    ]
}

fn name(channel: u8) -> String {
    format!("channel/{channel}")
}

#[derive(Default)]
struct Naive(BTreeMap<String, Vec<u8>>);

impl Naive {
    fn subscribe(&mut self, channel: u8, who: u8) -> Subscribed {
        let list = self.0.entry(name(channel)).or_default();
        if list.contains(&who) {
            return Subscribed::Before;
        }
        list.push(who);
        if list.len() == 1 { Subscribed::First } else { Subscribed::Also }
    }

    fn unsubscribe(&mut self, channel: &str, who: u8) -> Unsubscribed {
        let Some(list) = self.0.get_mut(channel) else { return Unsubscribed::Never };
        if !list.contains(&who) {
            return Unsubscribed::Never;
        }
        list.retain(|&other| other != who);
        if !list.is_empty() {
            return Unsubscribed::OthersRemain;
        }
        self.0.remove(channel);
        Unsubscribed::Last
    }

    fn unsubscribe_all(&mut self, who: u8) -> Vec<String> {
        let channels: Vec<String> = self.0.keys().cloned().collect();
        channels.into_iter().filter(|channel| self.unsubscribe(channel, who) == Unsubscribed::Last).collect()
    }
}

proptest! {
    #[test]
    fn behaves_like_a_map_of_lists(steps in prop::collection::vec(step(), 0..200), seed in any::<u64>()) {
        let mut tree = TopicTree::new(seed);
        let mut twin = TopicTree::new(!seed);
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Subscribe(channel, who) => {
                    let expected = naive.subscribe(channel, who);
                    prop_assert_eq!(tree.subscribe(&name(channel), who), expected);
                    twin.subscribe(&name(channel), who);
                }
                Step::Unsubscribe(channel, who) => {
                    let expected = naive.unsubscribe(&name(channel), who);
                    prop_assert_eq!(tree.unsubscribe(&name(channel), &who), expected);
                    twin.unsubscribe(&name(channel), &who);
                }
                Step::UnsubscribeAll(who) => {
                    let (mut ended, mut ended_twin) = (Vec::new(), Vec::new());
                    tree.unsubscribe_all(&who, |channel| ended.push(channel.into_string()));
                    twin.unsubscribe_all(&who, |channel| ended_twin.push(channel.into_string()));
                    prop_assert_eq!(&ended, &ended_twin, "the seed is not to be seen");
                    ended.sort();
                    prop_assert_eq!(ended, naive.unsubscribe_all(who));
                }
            }
            for channel in 0..12 {
                let expected = naive.0.get(&name(channel)).map_or(&[][..], Vec::as_slice);
                prop_assert_eq!(tree.subscribers(&name(channel)), expected);
            }
            prop_assert_eq!(tree.channels(), naive.0.len());
            prop_assert_eq!(tree.subscriptions(), naive.0.values().map(Vec::len).sum::<usize>());
            prop_assert_eq!(tree.name_bytes(), naive.0.keys().map(String::len).sum::<usize>());
        }
    }
}
