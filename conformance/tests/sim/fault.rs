//! Deliberate faults, to show that the simulation finds what it looks for. They live in the drivers here, not in the product.

/// What goes wrong in a run, in the wires or drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// After a broker's crash a worker's subscription gets lost.
    LoseResubscription,
    /// A response goes out twice.
    AnswerTwice,
    /// A response does not go out.
    LoseAnswer,
    /// Two deliveries of one channel change places on their way to a worker.
    SwapDeliveries,
    /// A delivery gets lost between broker and worker.
    LoseDelivery,
    /// A worker sends a socket a message of a channel again, whether it is still subscribed or not.
    StaleDelivery,
    /// Ack and own delivery change places.
    SwapAckAndDelivery,
    /// The master forgets a connection that it handed over.
    LoseConnection,
    /// The master does not notice that a process has ended.
    LoseChild,
    /// A connection goes to two workers.
    ShareConnection,
    /// What an event handler emits comes behind its ack.
    AckBeforeEmits,
    /// A worker's queue of a socket has no limit.
    NoLimit,
}
