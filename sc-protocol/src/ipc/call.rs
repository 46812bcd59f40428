//! What a worker asks of a broker besides channels.

/// What a [`LinkMsg::Call`](super::LinkMsg::Call) asks for. The names are those of SocketCluster's exchange (sc-broker 5.1).
///
/// The key of a value is its path, as a JSON array of strings. An edge of a range is a number or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum CallKind {
    /// The value.
    Get = 1,
    /// Part of it; data: `[from,to]`, `to` may be `null`.
    GetRange,
    /// Everything the broker has; no key.
    GetAll,
    /// How many values there are.
    Count,
    /// Whether there is one.
    HasKey,
    /// How many milliseconds it has left; `undefined` without an end.
    GetExpiry,
    /// Data: the new value.
    Set,
    /// Data: what to put behind a list. Answer: its index.
    Add,
    /// Data: the list, or the members, to add.
    Concat,
    /// Answer: what was there.
    Remove,
    /// Data: as for `GetRange`. Answer: what was there.
    RemoveRange,
    /// Everything the broker has; no key.
    RemoveAll,
    /// Data: `[index,count,items…]`, the first two may be `null`. Answer: what was removed.
    Splice,
    /// Answer: a list of what was removed.
    Pop,
    /// Data: in how many milliseconds the value goes.
    Expire,
    /// It stays after all.
    Unexpire,
    /// The key is the name of a query of the application, data its argument.
    Run,
    /// The same, when this link has ended.
    OnDeath,
    /// Data: a message for the application's code in the broker; no key.
    Send,
}

impl CallKind {
    /// All of them, in the order of their numbers on the wire, which begin with 1.
    pub const ALL: [Self; 19] = [
        Self::Get,
        Self::GetRange,
        Self::GetAll,
        Self::Count,
        Self::HasKey,
        Self::GetExpiry,
        Self::Set,
        Self::Add,
        Self::Concat,
        Self::Remove,
        Self::RemoveRange,
        Self::RemoveAll,
        Self::Splice,
        Self::Pop,
        Self::Expire,
        Self::Unexpire,
        Self::Run,
        Self::OnDeath,
        Self::Send,
    ];

    pub(super) fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    pub(super) const fn to_wire(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_own_number() {
        for (place, call) in CallKind::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(call.to_wire()), place + 1);
            assert_eq!(CallKind::from_wire(call.to_wire()), Some(call));
        }
        assert_eq!(CallKind::from_wire(0), None);
        assert_eq!(CallKind::from_wire(20), None);
    }
}
