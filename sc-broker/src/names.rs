//! A table of things that have a channel's name, which clients choose.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;
use slab::Slab;

/// Values by name. A value also has a key, a small number that stays valid until the value is removed; the order of
/// keys depends on the insertions and removals alone, never on the seed, so whatever is iterated may reach the wire.
///
/// Hashing takes both of foldhash's seeds from the one given in: with the library's fixed shared seed, names that
/// collide under every seed could be written down.
pub(crate) struct Names<T> {
    entries: Slab<Entry<T>>,
    index: HashTable<u32>,
    seed: u64,
    shared: SharedSeed,
    bytes: usize,
}

struct Entry<T> {
    name: Box<str>,
    value: T,
}

impl<T> Names<T> {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            entries: Slab::new(),
            index: HashTable::new(),
            seed,
            shared: SharedSeed::from_u64(seed.rotate_left(32)),
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all names together.
    pub(crate) const fn name_bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let entries = &self.entries;
        self.index.find(self.hash(name), |&key| *entries[key as usize].name == *name).copied()
    }

    pub(crate) fn get(&self, key: u32) -> Option<&T> {
        self.entries.get(key as usize).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        self.entries.get_mut(key as usize).map(|entry| &mut entry.value)
    }

    pub(crate) fn name(&self, key: u32) -> Option<&str> {
        self.entries.get(key as usize).map(|entry| &*entry.name)
    }

    /// Adds a name that is not there, which the caller has looked up.
    pub(crate) fn insert(&mut self, name: &str, value: T) -> u32 {
        debug_assert!(self.find(name).is_none(), "a name is in the table once");
        let key = self.entries.insert(Entry { name: name.into(), value });
        let key = u32::try_from(key).expect("invariant: the limits keep the number of names within u32");
        let hash = self.hash(name);
        let (entries, seed, shared) = (&self.entries, self.seed, &self.shared);
        self.index.insert_unique(hash, key, |&key| hash_name(&entries[key as usize].name, seed, shared));
        self.bytes += name.len();
        key
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<(Box<str>, T)> {
        let Entry { name, value } = self.entries.try_remove(key as usize)?;
        if let Ok(entry) = self.index.find_entry(self.hash(&name), |&other| other == key) {
            entry.remove();
        }
        self.bytes -= name.len();
        Some((name, value))
    }

    /// One more than the highest key in use: with [`get`](Self::get), a way to visit all while changing the table.
    pub(crate) fn keys_end(&self) -> u32 {
        self.entries.capacity() as u32
    }

    fn hash(&self, name: &str) -> u64 {
        hash_name(name, self.seed, &self.shared)
    }
}

fn hash_name(name: &str, seed: u64, shared: &SharedSeed) -> u64 {
    let mut hasher = FoldHasher::with_seed(seed, shared);
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl<T> std::fmt::Debug for Names<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("len", &self.len()).field("name_bytes", &self.bytes).finish_non_exhaustive()
    }
}
