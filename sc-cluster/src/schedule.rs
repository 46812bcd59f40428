//! Which worker gets the next connection.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// How connections are spread over the workers; `schedulingPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SchedulingPolicy {
    /// The master accepts and hands connections to the workers in turn. Node's constant 2, and the default.
    #[default]
    Rr,
    /// The master accepts and hands each connection to the worker that has the fewest.
    Least,
    /// The workers accept from one shared listener, and the kernel chooses. Node's constant 1. A little cheaper per
    /// connection, and uneven.
    None,
}

impl<'de> Deserialize<'de> for SchedulingPolicy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        match (value.as_u64(), value.as_str()) {
            (Some(2), _) | (_, Some("rr")) => Ok(Self::Rr),
            (Some(1), _) | (_, Some("none")) => Ok(Self::None),
            (_, Some("least")) => Ok(Self::Least),
            _ if value.is_null() => Ok(Self::Rr),
            _ => Err(serde::de::Error::custom("The schedulingPolicy option must be \"rr\", \"least\" or \"none\"")),
        }
    }
}

/// Picks among workers, which are known by their place in a list.
#[derive(Debug)]
pub(crate) struct Scheduler {
    policy: SchedulingPolicy,
    next: usize,
}

impl Scheduler {
    pub(crate) const fn new(policy: SchedulingPolicy) -> Self {
        Self { policy, next: 0 }
    }

    /// The place of the worker that gets the next connection, among `count` of them; `load` answers how many connections one
    /// holds, or `None` if it may get none now.
    pub(crate) fn pick(&mut self, count: usize, load: impl Fn(usize) -> Option<u64>) -> Option<usize> {
        let turn = (0..count).map(|step| (self.next + step) % count);
        let mut able = turn.filter_map(|place| load(place).map(|held| (held, place)));
        let (_, place) = match self.policy {
            // Equal loads take turns: `min_by_key` answers the first of equals.
            SchedulingPolicy::Least => able.min_by_key(|(held, _)| *held)?,
            SchedulingPolicy::Rr | SchedulingPolicy::None => able.next()?,
        };
        self.next = place + 1;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(policy: SchedulingPolicy, loads: &[Option<u64>], n: usize) -> Vec<Option<usize>> {
        let mut scheduler = Scheduler::new(policy);
        (0..n).map(|_| scheduler.pick(loads.len(), |place| loads[place])).collect()
    }

    #[test]
    fn rr_takes_turns_and_skips_who_cannot() {
        let all = picks(SchedulingPolicy::Rr, &[Some(9), Some(0), Some(5)], 4);
        assert_eq!(all, [Some(0), Some(1), Some(2), Some(0)]);
        assert_eq!(picks(SchedulingPolicy::Rr, &[Some(0), None, Some(0)], 3), [Some(0), Some(2), Some(0)]);
        assert_eq!(picks(SchedulingPolicy::Rr, &[None, None], 1), [None]);
        assert_eq!(picks(SchedulingPolicy::Rr, &[], 1), [None]);
    }

    #[test]
    fn least_takes_the_emptiest_and_takes_turns_among_equals() {
        assert_eq!(picks(SchedulingPolicy::Least, &[Some(3), Some(1), Some(2)], 2), [Some(1), Some(1)]);
        assert_eq!(picks(SchedulingPolicy::Least, &[Some(1), Some(1)], 3), [Some(0), Some(1), Some(0)]);
        assert_eq!(picks(SchedulingPolicy::Least, &[Some(1), None], 2), [Some(0), Some(0)]);
    }

    #[test]
    fn names_and_nodes_constants_are_read() {
        let read = |json| serde_json::from_str::<SchedulingPolicy>(json).ok();
        assert_eq!(read("null"), Some(SchedulingPolicy::Rr));
        assert_eq!(read("2"), Some(SchedulingPolicy::Rr));
        assert_eq!(read("\"none\""), Some(SchedulingPolicy::None));
        assert_eq!(read("1"), Some(SchedulingPolicy::None));
        assert_eq!(read("\"least\""), Some(SchedulingPolicy::Least));
        assert_eq!(read("\"fastest\""), None);
    }
}
