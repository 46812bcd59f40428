//! Which broker a channel, or a value, lives on.

use crate::store::Key;

/// What a [`Mapper`] is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapped<'a> {
    /// A channel's name.
    Channel(&'a str),
    /// The key of a value. Keys that begin with the same name should live on the same broker: the value under that name is
    /// above all of them.
    Key(&'a Key),
}

/// The application's word on which of so many brokers keeps what: SC's `setMapper`. A number that is too large is taken
/// modulo the number of brokers.
///
/// A plain function, so that it cannot depend on anything that differs between workers: they must agree.
///
/// ```
/// use sc_broker::{Mapped, shard};
///
/// /// Everything of a room, `room/7/chat` and `room/7/moves`, on one broker.
/// fn by_room(what: Mapped<'_>, brokers: u32) -> u32 {
///     match what {
///         Mapped::Channel(channel) => shard(channel.split('/').nth(1).unwrap_or(channel), brokers),
///         Mapped::Key(key) => shard(key.first(), brokers),
///     }
/// }
/// let mut exchange: sc_broker::Exchange<(), ()> = sc_broker::Exchange::new(8, Default::default(), 42);
/// exchange.set_mapper(by_room)?;
/// assert_eq!(exchange.shard_of("room/7/chat"), exchange.shard_of("room/7/moves"));
/// # Ok::<(), sc_protocol::ScError>(())
/// ```
pub type Mapper = fn(Mapped<'_>, u32) -> u32;

/// The broker, of `brokers` many, that keeps the channel: 0 for one broker or none, else below `brokers`.
///
/// The answer depends on nothing but its arguments: every worker and every version must agree on it, else a message
/// would be published where nobody listens. So there is no seed in it, and a client can aim many channels at one
/// broker. That costs that broker no more than as many messages on one channel would; tables keyed by channels have
/// seeds of their own.
///
/// ```
/// use sc_broker::shard;
///
/// assert_eq!(shard("news", 1), 0);
/// assert_eq!(shard("news", 4), shard("news", 4));
/// assert!(shard("weather", 4) < 4);
/// ```
#[must_use]
pub fn shard(channel: &str, brokers: u32) -> u32 {
    if brokers <= 1 {
        return 0;
    }
    let scaled = (u128::from(hash(channel.as_bytes())) * u128::from(brokers)) >> 64;
    u32::try_from(scaled).unwrap_or(0)
}

/// A mixed 64 bit hash: FNV-1a's offset and MurmurHash3's finaliser around eight bytes a step. All 64 bits must be
/// good, for `shard` takes the highest ones.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64;
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash ^ u64::from_le_bytes(last))
}

const fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_even_for_names_that_differ_little() {
        for brokers in [2, 3, 5, 8] {
            let mut count = vec![0u32; brokers as usize];
            for n in 0..8000 {
                count[shard(&format!("room/{n}"), brokers) as usize] += 1;
            }
            let fair = 8000 / brokers;
            assert!(count.iter().all(|&n| n > fair * 8 / 10 && n < fair * 12 / 10), "{brokers}: {count:?}");
        }
    }
}
