//! What holds when nothing breaks any more and everything has arrived.

use std::collections::BTreeMap;

use super::wire::Wire;
use super::{Answer, CHANNELS, Rig};

impl Rig {
    /// Everything heals, and what is on its way arrives. Panics if that takes forever.
    pub(crate) fn settle(&mut self) {
        for w in 0..self.workers.len() {
            for b in 0..self.brokers.len() {
                self.wires[w][b].stalled = false;
                self.tell_worker(w, b);
                self.tell_broker(w, b);
                self.connect(w, b);
            }
        }
        for _ in 0..2000 {
            for w in 0..self.workers.len() {
                self.flush_worker(w, true);
                (0..self.brokers.len()).for_each(|b| self.broker_reads(w, b, true));
            }
            (0..self.brokers.len()).for_each(|b| self.broker_writes(b, true));
            for w in 0..self.workers.len() {
                (0..self.brokers.len()).for_each(|b| self.worker_reads(w, b, true));
            }
            // An answer may have led to one more Unsubscribe.
            (0..self.workers.len()).for_each(|w| self.flush_worker(w, true));
            if self.is_settled() {
                return self.check_settled();
            }
        }
        panic!(
            "no progress: {:?} are not answered",
            self.answers.iter().filter(|(_, a)| a.is_none()).collect::<Vec<_>>()
        );
    }

    fn is_settled(&self) -> bool {
        let answered = self.answers.values().all(Option::is_some)
            && self.waiters.values().chain(self.calls.values()).all(|&done| done);
        answered && self.wires.iter().flatten().all(Wire::is_empty)
    }

    fn check_settled(&self) {
        for (b, node) in self.brokers.iter().enumerate() {
            assert_eq!(node.broker.unacknowledged(), 0);
            assert!(node.overloaded.is_empty(), "who reads is relieved");
            for (c, &channel) in CHANNELS.iter().enumerate() {
                let here = sc_broker::shard(channel, self.brokers.len() as u32) as usize == b;
                let mut links: Vec<u32> = node.broker.topics().subscribers(channel).to_vec();
                links.sort_unstable();
                let wants = |w: &usize| here && self.workers[*w].wanted.contains(&c);
                let link = |w: usize| self.wires[w][b].broker_link.expect("settled").0;
                let mut wanted: Vec<u32> = (0..self.workers.len()).filter(wants).map(link).collect();
                wanted.sort_unstable();
                assert_eq!(links, wanted, "what is wanted is subscribed to, and nothing else");
            }
            for w in 0..self.workers.len() {
                assert_eq!(node.broker.queued(self.wires[w][b].broker_link.expect("settled")), 0);
                let exchange = &self.workers[w].exchange;
                assert_eq!((exchange.waiting(b as u32), exchange.in_flight(b as u32)), (0, 0));
            }
        }
        for worker in &self.workers {
            assert_eq!(worker.exchange.channels(), worker.wanted.len());
        }
        self.check_order();
    }

    /// What any two workers both saw of a channel, they saw in the same order.
    fn check_order(&self) {
        for channel in 0..CHANNELS.len() {
            for one in &self.workers {
                let place: BTreeMap<u64, usize> = one.log[channel].iter().enumerate().map(|(n, &id)| (id, n)).collect();
                for other in &self.workers {
                    let places: Vec<usize> =
                        other.log[channel].iter().filter_map(|id| place.get(id).copied()).collect();
                    assert!(places.is_sorted(), "one order: {:?} {:?}", one.log[channel], other.log[channel]);
                }
            }
        }
    }

    /// After everything healed, a message on each channel reaches every worker that wants it.
    pub(crate) fn check_serving(&mut self) {
        self.settle();
        for w in 0..self.workers.len() {
            for channel in 0..CHANNELS.len() {
                self.publish(w, channel);
                let id = self.next_id;
                self.settle();
                assert_eq!(self.answers[&id], Some(Answer::Published));
                for worker in &self.workers {
                    let got = worker.log[channel].iter().filter(|&&other| other == id).count();
                    assert_eq!(got, usize::from(worker.wanted.contains(&channel)));
                }
            }
        }
    }
}
