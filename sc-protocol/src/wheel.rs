//! The deadlines of a machine: a hierarchical timer wheel.
//!
//! ```text
//!   level 0: 64 slots of 1 tick     ◄─ cascade when the wheel reaches a slot of the level above
//!   level 1: 64 slots of 64 ticks
//!   level 2: 64 slots of 4096 ticks … up to all 64 bits of a tick's number
//! ```
//!
//! Inserting and cancelling take constant time and no allocation beyond the timer's place in a slab; a timer moves down
//! at most once per level. An event loop asks [`Wheel::poll_timeout`] when to wake up and calls [`Wheel::advance`]
//! then. That time may be a slot's beginning, which is before its first deadline; advancing then only cascades.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Slots of a level, and bits of a bitmap.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
/// 64 bits of a tick's number, 6 a level: there is no deadline too far away.
const LEVELS: usize = 11;
const NIL: u32 = u32::MAX;

/// Timers with a value each, which comes back when the timer is due.
///
/// ```
/// use std::time::{Duration, Instant};
/// use sc_protocol::wheel::Wheel;
///
/// let start = Instant::now();
/// let mut wheel = Wheel::new(start, Duration::from_millis(10));
/// let ack = wheel.insert(start + Duration::from_secs(10), "ack timeout");
/// wheel.insert(start + Duration::from_millis(15), "probe timeout");
/// wheel.cancel(ack);
///
/// let mut due = Vec::new();
/// wheel.advance(start + Duration::from_millis(19), &mut due);
/// assert!(due.is_empty(), "deadlines are rounded up to a tick");
/// wheel.advance(start + Duration::from_millis(20), &mut due);
/// assert_eq!(due, ["probe timeout"]);
/// ```
#[derive(Debug)]
pub struct Wheel<T> {
    start: Instant,
    tick_ns: u64,
    /// Ticks since the start that are over: all earlier deadlines have fired.
    elapsed: u64,
    /// Which slots of a level hold timers.
    occupied: [u64; LEVELS],
    /// A list of timers per slot, level by level.
    slots: Box<[List]>,
    nodes: Vec<Node<T>>,
    free: u32,
    len: usize,
}

/// A timer of a [`Wheel`]; stays its name after it fired or was cancelled, and is never given to another one (until
/// 2³² timers have had the same place).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: NonZeroU32,
}

#[derive(Debug, Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

#[derive(Debug)]
struct Node<T> {
    tick: u64,
    /// Of the list it is in; `next` alone if it is free.
    prev: u32,
    next: u32,
    generation: NonZeroU32,
    slot: u16,
    value: T,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel. `tick` is the precision: no timer fires early, none more than a tick late.
    #[must_use]
    pub fn new(start: Instant, tick: Duration) -> Self {
        Self {
            start,
            tick_ns: nanos(tick).max(1),
            elapsed: 0,
            occupied: [0; LEVELS],
            slots: vec![List { head: NIL, tail: NIL }; LEVELS * SLOTS].into_boxed_slice(),
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// A new timer. One whose deadline has passed is due at the next [`advance`](Self::advance).
    pub fn insert(&mut self, deadline: Instant, value: T) -> TimerId {
        let tick = nanos(deadline.saturating_duration_since(self.start)).div_ceil(self.tick_ns).max(self.elapsed);
        let index = self.allocate(tick, value);
        self.link(index);
        self.len += 1;
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Takes a timer out and gives its value back. `None`: it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let node = self.nodes.get(id.index as usize).filter(|node| node.generation == id.generation)?;
        let value = node.value;
        self.unlink(id.index);
        self.release(id.index);
        Some(value)
    }

    /// Appends the values of all timers due at `now` to `due`, in the order of their deadlines' ticks; those of the
    /// same tick in the order of insertion. `now` before an earlier call's changes nothing.
    pub fn advance(&mut self, now: Instant, due: &mut Vec<T>) {
        let now = nanos(now.saturating_duration_since(self.start)) / self.tick_ns;
        while let Some((level, slot, tick)) = self.next_slot().filter(|(.., tick)| *tick <= now) {
            debug_assert!(tick >= self.elapsed, "a slot that has passed was emptied then");
            self.elapsed = tick;
            let mut index = std::mem::replace(&mut self.slots[slot], List { head: NIL, tail: NIL }).head;
            self.occupied[level] &= !(1 << (slot % SLOTS));
            while index != NIL {
                let node = &self.nodes[index as usize];
                let (next, value) = (node.next, node.value);
                if level == 0 {
                    due.push(value);
                    self.release(index);
                } else {
                    self.link(index);
                }
                index = next;
            }
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// When to call [`advance`](Self::advance) next, at the latest; `None` without timers. Never later than the
    /// earliest deadline rounded up to a tick, and in the future directly after `advance`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (.., tick) = self.next_slot()?;
        self.start.checked_add(Duration::from_nanos(tick.saturating_mul(self.tick_ns)))
    }

    /// Timers that have not fired.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first slot with timers: level, index in `slots`, and the tick at which it begins.
    ///
    /// All timers of a level agree with `elapsed` in the digits above and are ahead in this one (on level 0 perhaps
    /// equal), so a level's lowest bit is its first slot, and lower levels come before higher ones.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let digit = self.occupied[level].trailing_zeros();
        let shift = SLOT_BITS * level as u32;
        let above = self.elapsed.checked_shr(shift + SLOT_BITS).unwrap_or(0).checked_shl(shift + SLOT_BITS);
        Some((level, level * SLOTS + digit as usize, above.unwrap_or(0) | u64::from(digit) << shift))
    }

    /// Puts a node that is in no list into that of its tick. The level is the highest digit in which the tick differs
    /// from `elapsed`; it stays right until the wheel reaches the slot.
    fn link(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick;
        debug_assert!(tick >= self.elapsed);
        let level = (63 - ((tick ^ self.elapsed) | 1).leading_zeros()) / SLOT_BITS;
        let digit = (tick >> (SLOT_BITS * level)) as usize % SLOTS;
        let (level, slot) = (level as usize, level as usize * SLOTS + digit);

        let list = &mut self.slots[slot];
        let tail = std::mem::replace(&mut list.tail, index);
        match tail {
            NIL => list.head = index,
            tail => self.nodes[tail as usize].next = index,
        }
        let node = &mut self.nodes[index as usize];
        (node.prev, node.next, node.slot) = (tail, NIL, slot as u16);
        self.occupied[level] |= 1 << digit;
    }

    fn unlink(&mut self, index: u32) {
        let Node { prev, next, slot, .. } = self.nodes[index as usize];
        let slot = usize::from(slot);
        match prev {
            NIL => self.slots[slot].head = next,
            prev => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => self.slots[slot].tail = prev,
            next => self.nodes[next as usize].prev = prev,
        }
        if self.slots[slot].head == NIL {
            self.occupied[slot / SLOTS] &= !(1 << (slot % SLOTS));
        }
    }

    fn allocate(&mut self, tick: u64, value: T) -> u32 {
        if self.free != NIL {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            (node.tick, node.value) = (tick, value);
            return index;
        }
        let index = u32::try_from(self.nodes.len()).ok().filter(|index| *index != NIL);
        let index = index.expect("invariant: 2^32 timers do not fit, their nodes would take over 100 GiB");
        self.nodes.push(Node { tick, prev: NIL, next: NIL, generation: NonZeroU32::MIN, slot: 0, value });
        index
    }

    /// Frees a node that is in no list any more; its id means nothing from now on.
    fn release(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}
