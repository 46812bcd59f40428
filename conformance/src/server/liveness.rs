//! Pings, pongs and silence.

use std::time::{Duration, Instant};

use super::Check;
use crate::check::{Stop, Verdict, ensure, equal};
use crate::peer::Peer;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check::both("liveness/pings", "SC server: #1, or the empty message", pings),
    Check::both("liveness/pongs-keep-alive", "SC server: any pong restarts pingTimeout", pongs_keep_alive),
    Check::both("liveness/silence-is-cut", "SC server: 4001 after pingTimeout", silence_is_cut),
];

/// A socket, and the server's `pingTimeout`, if it is short enough to wait for.
fn open(target: &Target) -> Verdict<(Peer, Duration)> {
    let mut peer = Peer::connect(target, "")?;
    let data = peer.handshake(None)?.ok()?;
    let timeout = Duration::from_millis(data["pingTimeout"].as_u64().unwrap_or(0));
    if timeout > target.slow_max {
        let why = format!("pingTimeout is {timeout:?}, more than --slow-max allows to wait for");
        return Err(Stop::skip(why));
    }
    Ok((peer, timeout))
}

/// Lets messages come in until the time is over or the connection is.
fn pass(peer: &mut Peer, time: Duration) -> Verdict {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        match peer.closed_within(left) {
            Ok((code, _)) => return Err(Stop::fail(format!("the server closes with {code}"))),
            Err(Stop::Fail(why)) if why.contains("in time") => {}
            Err(stop) => return Err(stop),
        }
    }
}

fn pings(target: &Target) -> Verdict {
    let (mut peer, timeout) = open(target)?;
    let before = peer.pings;
    pass(&mut peer, timeout)?;
    ensure(peer.pings > before, || format!("no ping within {timeout:?}"))
}

fn pongs_keep_alive(target: &Target) -> Verdict {
    let (mut peer, timeout) = open(target)?;
    pass(&mut peer, timeout * 2)?;
    peer.barrier()
}

fn silence_is_cut(target: &Target) -> Verdict {
    let (mut peer, timeout) = open(target)?;
    peer.pongs = false;
    let (code, _) = peer.closed_within(timeout * 2 + target.patience)?;
    equal("the close code", code, 4001)
}
