//! One connection between a worker and a broker, and who has read what of it.

use std::collections::{BTreeMap, VecDeque};

use sc_broker::LinkId;
use sc_protocol::ipc::LinkReader;

pub(crate) struct Wire {
    /// What the worker's driver could not write yet.
    pub(crate) kept: VecDeque<u8>,
    /// Kernel buffers, to the broker and to the worker.
    pub(crate) up: VecDeque<u8>,
    pub(crate) down: VecDeque<u8>,
    pub(crate) up_capacity: usize,
    down_capacity: usize,
    pub(crate) worker_open: bool,
    pub(crate) broker_link: Option<LinkId>,
    /// The broker was told that this link takes no more.
    pub(crate) blocked: bool,
    /// Bytes are lost from now on, and both ends will hear of it.
    pub(crate) broken: bool,
    /// The worker does not read.
    pub(crate) stalled: bool,
    pub(crate) life: u32,
    /// Reads with the broker, behind the broker, and with the worker.
    pub(crate) requests: LinkReader,
    pub(crate) responses: LinkReader,
    pub(crate) deliveries: LinkReader,
    /// Requests that the broker has read and not answered: for publishes the id, and whether the worker was subscribed.
    pub(crate) asked: BTreeMap<u64, Option<(u64, bool)>>,
}

impl Wire {
    pub(crate) fn new(up_capacity: usize, down_capacity: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_capacity,
            down_capacity,
            worker_open: false,
            broker_link: None,
            blocked: false,
            broken: false,
            stalled: false,
            life: 0,
            requests: LinkReader::new(),
            responses: LinkReader::new(),
            deliveries: LinkReader::new(),
            asked: BTreeMap::new(),
        }
    }

    pub(crate) fn open(&mut self, link: LinkId) {
        let life = self.life + 1;
        *self = Self {
            worker_open: true,
            broker_link: Some(link),
            life,
            ..Self::new(self.up_capacity, self.down_capacity)
        };
    }

    /// What the broker has sent and the worker not read is lost, as is what was on its way to the broker.
    pub(crate) fn close_worker_end(&mut self) {
        self.worker_open = false;
        self.kept.clear();
        self.down.clear();
    }

    pub(crate) fn close_broker_end(&mut self) {
        self.broker_link = None;
        self.up.clear();
    }

    pub(crate) fn broker_life(&self) -> Option<u32> {
        self.broker_link.map(|_| self.life)
    }

    pub(crate) fn down_room(&self) -> usize {
        if self.broken { usize::MAX >> 1 } else { self.down_capacity - self.down.len().min(self.down_capacity) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.up.is_empty() && self.down.is_empty() && self.asked.keys().all(|&cid| cid == 0)
    }
}

/// The id of a publish stands in its data.
pub(crate) fn publish_id(data: Option<&str>) -> u64 {
    let data = data.expect("every publish of the rig has data");
    let (id, rest) = data[1..].split_once(',').expect("as the rig wrote it");
    assert!(rest.starts_with('"') && rest.ends_with("\"]"), "nothing is cut off");
    id.parse().expect("a number")
}

/// Moves up to `n` bytes from the pipe to `data`.
pub(crate) fn take(pipe: &mut VecDeque<u8>, n: usize, data: &mut Vec<u8>) {
    data.clear();
    data.extend(pipe.drain(..n.min(pipe.len())));
}
