//! The open connections, and which of them makes room for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::config::Deadlines;
use super::metrics::Metrics;

/// How long a client may take to hear that its body took too long.
const TO_TELL: Duration = Duration::from_secs(5);

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No whole head of a request has come yet.
    Opened,
    /// A body is coming.
    Receiving,
    /// A whole request is being answered.
    Answering,
    /// There is an answer, which the client takes, and after which it may ask again.
    Answered,
}

impl Phase {
    /// How long it may last; a request that came whole is answered however long it takes.
    fn limit(self, deadlines: &Deadlines) -> Option<Duration> {
        match self {
            Self::Opened => Some(deadlines.head),
            // The request has the same deadline, and some time to tell the client.
            Self::Receiving => Some(deadlines.body + TO_TELL),
            Self::Answering => None,
            Self::Answered => Some(deadlines.idle),
        }
    }

    /// Whether nothing is lost, or only what came in part, when it is closed.
    fn may_make_room(self) -> bool {
        self != Self::Answering
    }
}

/// What a connection is at, since when, and whether it must end.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub phase: Phase,
    pub since: Instant,
    pub is_evicted: bool,
}

impl State {
    /// When the phase must have ended.
    pub fn deadline(&self, deadlines: &Deadlines) -> Option<Instant> {
        let limit = self.phase.limit(deadlines)?;
        Some(self.since + limit)
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    state: watch::Sender<State>,
}

impl Connection {
    /// A new phase begins.
    pub fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| {
            state.phase = phase;
            state.since = Instant::now();
        });
    }

    /// Its state, now and later.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }
}

/// The open connections.
pub(super) struct Connections {
    most: usize,
    all: Mutex<All>,
    closed: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct All {
    open: BTreeMap<u64, Arc<Connection>>,
    next: u64,
}

/// A place among the connections. It is free again when this is dropped.
pub(super) struct Admitted {
    pub connection: Arc<Connection>,
    number: u64,
    connections: Arc<Connections>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
        self.connections.closed.notify_waiters();
    }
}

impl Connections {
    pub fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            most: most.max(1),
            all: Mutex::default(),
            closed: Notify::new(),
            metrics,
        }
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.lock().open.len()
    }

    /// A place for a new connection, for which an old one that sends nothing is closed if it must
    /// be.
    pub async fn admit(self: &Arc<Self>) -> Admitted {
        loop {
            // Made first, so that no connection closes unseen.
            let closed = self.closed.notified();
            if let Some(admitted) = self.try_admit() {
                return admitted;
            }
            self.evict();
            closed.await;
        }
    }

    fn try_admit(self: &Arc<Self>) -> Option<Admitted> {
        let mut all = self.lock();
        if all.open.len() >= self.most {
            return None;
        }
        let (state, _) = watch::channel(State {
            phase: Phase::Opened,
            since: Instant::now(),
            is_evicted: false,
        });
        let connection = Arc::new(Connection { state });
        let number = all.next;
        all.next += 1;
        all.open.insert(number, connection.clone());
        Some(Admitted {
            connection,
            number,
            connections: self.clone(),
        })
    }

    /// Closes the connection that has been waited for the longest, those that send a body last.
    /// Gives whether there was one.
    pub fn evict(&self) -> bool {
        let all = self.lock();
        let candidates = all.open.values().filter_map(|connection| {
            let state = *connection.state.borrow();
            let may = state.phase.may_make_room() && !state.is_evicted;
            may.then_some(((state.phase == Phase::Receiving, state.since), connection))
        });
        let Some((_, connection)) = candidates.min_by_key(|(rank, _)| *rank) else {
            return false;
        };
        connection
            .state
            .send_modify(|state| state.is_evicted = true);
        self.metrics.evicted();
        true
    }

    /// Waits until there are none.
    pub async fn all_closed(&self) {
        loop {
            let closed = self.closed.notified();
            if self.open() == 0 {
                return;
            }
            closed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: usize) -> Arc<Connections> {
        Arc::new(Connections::new(most, Arc::new(Metrics::new())))
    }

    fn is_evicted(admitted: &Admitted) -> bool {
        admitted.connection.watch().borrow().is_evicted
    }

    #[test]
    fn the_one_that_sends_nothing_for_the_longest_time_makes_room_and_uploads_come_last() {
        let connections = connections(4);
        let [upload, answer, old, new] = std::array::from_fn(|_| connections.try_admit().unwrap());
        assert!(connections.try_admit().is_none());
        upload.connection.enter(Phase::Receiving);
        answer.connection.enter(Phase::Answering);
        for (expected, others) in [(&old, [&new, &upload]), (&new, [&upload, &answer])] {
            assert!(connections.evict());
            assert!(is_evicted(expected));
            assert!(others.iter().all(|other| !is_evicted(other)));
        }
        assert!(connections.evict());
        assert!(is_evicted(&upload) && !is_evicted(&answer));
        assert!(!connections.evict(), "what is being answered stays");
        drop(old);
        assert_eq!(connections.open(), 3);
        assert!(connections.try_admit().is_some());
    }
}
