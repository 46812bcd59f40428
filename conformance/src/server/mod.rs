//! What a server has to do, shown by one that runs the application of `CONTRACT.md`.

use sc_protocol::Version;

use crate::check::{Report, Rule, Stop, Verdict};
use crate::peer::Peer;
use crate::target::Target;

mod auth;
mod closing;
mod events;
mod frames;
mod handshake;
mod liveness;
mod odd;
mod pubsub;

/// A check of a server.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The rule.
    pub rule: Rule,
    run: fn(&Target) -> Verdict,
}

impl Check {
    const fn of(
        name: &'static str,
        source: &'static str,
        version: Option<Version>,
        run: fn(&Target) -> Verdict,
    ) -> Self {
        Self { rule: Rule { name, source, version }, run }
    }

    const fn both(name: &'static str, source: &'static str, run: fn(&Target) -> Verdict) -> Self {
        Self::of(name, source, None, run)
    }

    const fn v1(name: &'static str, source: &'static str, run: fn(&Target) -> Verdict) -> Self {
        Self::of(name, source, Some(Version::V1), run)
    }

    const fn v2(name: &'static str, source: &'static str, run: fn(&Target) -> Verdict) -> Self {
        Self::of(name, source, Some(Version::V2), run)
    }
}

/// All checks of servers.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    let areas = [
        frames::CHECKS,
        handshake::CHECKS,
        liveness::CHECKS,
        events::CHECKS,
        odd::CHECKS,
        pubsub::CHECKS,
        auth::CHECKS,
        closing::CHECKS,
    ];
    areas.into_iter().flatten()
}

/// Runs the checks of the target's version whose names `wanted` wants.
///
/// ```no_run
/// use sc_conformance::{Target, Version, server};
///
/// let target = Target::new("ws://127.0.0.1:8000/socketcluster/", Version::V2).unwrap();
/// println!("{}", server::run(&target, |name| name.starts_with("auth/")));
/// ```
#[must_use]
pub fn run(target: &Target, wanted: impl Fn(&str) -> bool) -> Report {
    let mut report = Report::new(format!("ws://{}{}", target.host, target.path), target.version);
    let applies = |check: &&Check| check.rule.version.is_none_or(|version| version == target.version);
    let mut gone = None;
    for check in checks().filter(applies).filter(|check| wanted(check.rule.name)) {
        let verdict = match gone {
            Some(name) => Err(Stop::skip(format!("the server does not serve any more, since {name}"))),
            None => {
                let verdict = (check.run)(target);
                match alive(target) {
                    Ok(()) => verdict,
                    Err(Stop::Fail(why) | Stop::Skip(why)) => {
                        gone = Some(check.rule.name);
                        verdict.and_then(|()| Err(Stop::fail(format!("afterwards the server does not serve: {why}"))))
                    }
                }
            }
        };
        report.add(check.rule, verdict);
    }
    report
}

fn alive(target: &Target) -> Verdict {
    Peer::open(target)?.barrier()
}

fn is_v1(target: &Target) -> bool {
    target.version == Version::V1
}
