//! Signals as events of the loop.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};

use mio::{Interest, Registry, Token, event::Source};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR2};
use signal_hook_mio::v1_0;

/// A signal that means something to a process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caught {
    /// SIGTERM.
    Terminate,
    /// SIGINT, mostly Ctrl-C.
    Interrupt,
    /// SIGUSR2: restart the workers.
    Reload,
    /// SIGTTIN: one worker more.
    MoreWorkers,
    /// SIGTTOU: one worker less.
    FewerWorkers,
    /// SIGCHLD: some children ended. Signals coalesce, so each child is to be looked at.
    Child,
}

/// Delivers the signals of the master as a readable source.
pub(crate) struct Signals(v1_0::Signals);

impl Signals {
    /// Catches what the master listens to. From here on these signals do not end the process by themselves.
    pub(crate) fn of_master() -> io::Result<Self> {
        Ok(Self(v1_0::Signals::new([SIGTERM, SIGINT, SIGUSR2, SIGTTIN, SIGTTOU, SIGCHLD])?))
    }

    /// What came since the last call.
    pub(crate) fn pending(&mut self) -> impl Iterator<Item = Caught> + '_ {
        self.0.pending().filter_map(|signal| match signal {
            SIGTERM => Some(Caught::Terminate),
            SIGINT => Some(Caught::Interrupt),
            SIGUSR2 => Some(Caught::Reload),
            SIGTTIN => Some(Caught::MoreWorkers),
            SIGTTOU => Some(Caught::FewerWorkers),
            SIGCHLD => Some(Caught::Child),
            _ => None,
        })
    }
}

/// Keeps Ctrl-C, which a terminal sends to every process of its foreground group, from ending a child under the master's hands:
/// the master hears it too, and ends its children in order. The others are meant for the master alone.
pub(crate) fn ignore_in_child() -> io::Result<()> {
    for signal in [SIGINT, SIGUSR2, SIGTTIN, SIGTTOU] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signals")
    }
}

impl Source for Signals {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.0.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.deregister(registry)
    }
}
