//! Many clients on one thread, and the books on what each of them is owed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Poll};

use crate::client::{Client, End, Fate, State};

/// Longer than anything waited for could take on a slow machine: what is not there by then will not come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Crowd {
    poll: Poll,
    address: SocketAddr,
    pub(crate) clients: Vec<Client>,
    pub(crate) is_publishing: bool,
    /// Who is served leaves, and comes again.
    pub(crate) is_churning: bool,
    /// By channel: how many were published so far.
    published: Vec<u32>,
}

/// What became of all publishes, and of all connections.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) acked: usize,
    /// Answered with an error, by its name.
    pub(crate) refused: BTreeMap<String, usize>,
    /// Not answered before the connection ended.
    pub(crate) lost: usize,
    pub(crate) deliveries: usize,
    /// Ends of connections, by kind.
    pub(crate) ends: BTreeMap<String, usize>,
}

impl Crowd {
    /// `count` clients on channels of their own, called "crowd 0" and so on; each channel has one publisher, and `count / channels` subscribers.
    pub(crate) fn new(port: u16, count: usize, channels: usize) -> Self {
        Self::named("crowd", port, count, channels)
    }

    pub(crate) fn named(name: &str, port: u16, count: usize, channels: usize) -> Self {
        let now = Instant::now();
        let clients = (0..count).map(|id| Client::new(id, name, id % channels, id < channels, now)).collect();
        Self {
            poll: Poll::new().expect("epoll"),
            address: ([127, 0, 0, 1], port).into(),
            clients,
            is_publishing: true,
            is_churning: false,
            published: vec![0; channels],
        }
    }

    /// Lets time pass until something holds. Answers how long it took.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) -> Duration {
        let begin = Instant::now();
        let mut events = Events::with_capacity(1024);
        while !holds(self) {
            assert!(begin.elapsed() < PATIENCE, "{what} did not come: {}", self.describe());
            self.poll.poll(&mut events, Some(Duration::from_millis(5))).or_else(ignore_interrupt).expect("epoll");
            let now = Instant::now();
            for event in &events {
                self.clients[event.token().0].event(&self.published, now);
            }
            for client in &mut self.clients {
                if self.is_churning && client.state == State::Ready {
                    client.end(End::Left, now);
                }
                if client.connect_at.is_some_and(|at| at <= now) {
                    client.connect(self.address, self.poll.registry());
                }
                client.flush(now);
                if self.is_publishing && client.publish_at.is_some_and(|at| at <= now) {
                    client.publish(now);
                    self.published[client.channel] = client.fates.len() as u32;
                }
            }
        }
        begin.elapsed()
    }

    /// All are subscribed, and each publisher had a publish acknowledged that was sent after now.
    pub(crate) fn until_all_serve(&mut self, what: &str) -> Duration {
        let from: Vec<_> = self.clients.iter().map(|client| client.fates.len()).collect();
        self.until(what, |crowd| {
            let mut clients = crowd.clients.iter().zip(&from);
            clients.all(|(client, from)| {
                let acked = || client.fates.iter().skip(*from).any(|fate| *fate == Fate::Acked);
                client.is_deaf || client.state == State::Ready && (!client.is_publisher || acked())
            })
        })
    }

    /// Emits from the first client and waits for the answer: its error and data.
    pub(crate) fn ask(&mut self, event: &str, data: &str) -> (Option<String>, Option<String>) {
        let cid = self.clients[0].emit(event, data);
        self.until("the answer", |crowd| crowd.clients[0].answers.contains_key(&cid));
        self.clients[0].answers.remove(&cid).expect("just seen")
    }

    /// A client that did not read begins to, again.
    pub(crate) fn listen_again(&mut self, client: usize) {
        self.clients[client].is_deaf = false;
        self.clients[client].event(&self.published, Instant::now());
    }

    /// So many more publishes are acknowledged.
    pub(crate) fn publish_more(&mut self, count: usize) {
        let goal = self.tally().acked + count;
        self.until("more publishes", |crowd| crowd.tally().acked >= goal);
    }

    /// No more publishes; what was sent is answered, and what was acknowledged is delivered.
    pub(crate) fn finish(&mut self) -> Tally {
        self.is_publishing = false;
        let open = |client: &Client| client.state != State::Down && client.state != State::Ready;
        self.until("the end of all publishes", |crowd| {
            !crowd.clients.iter().any(|client| open(client) || client.fates.contains(&Fate::Pending))
        });
        self.until("all deliveries", |crowd| crowd.clients.iter().all(|client| crowd.missing(client).is_empty()));
        self.check();
        self.tally()
    }

    /// Acknowledged numbers that a client's present connection is owed and has not received.
    fn missing(&self, client: &Client) -> Vec<u32> {
        let Some(epoch) = client.epoch().filter(|_| !client.is_deaf) else { return Vec::new() };
        let fates = &self.clients[client.channel].fates;
        let Some(from) = epoch.due_from else { return Vec::new() };
        let due = (from..fates.len() as u32).filter(|number| fates[*number as usize] == Fate::Acked);
        due.filter(|number| epoch.received.binary_search(number).is_err()).collect()
    }

    /// On every connection there ever was: each number once and in order, and none left out that was acknowledged, between the
    /// first that was due and the last that came.
    fn check(&self) {
        for client in &self.clients {
            let fates = &self.clients[client.channel].fates;
            for epoch in &client.epochs {
                let received = &epoch.received;
                assert!(received.is_sorted_by(|a, b| a < b), "client {}: {received:?}", client.id);
                let (Some(&last), Some(due)) = (received.last(), epoch.due_from) else { continue };
                for number in due..last {
                    let is_owed = fates[number as usize] == Fate::Acked;
                    let came = received.binary_search(&number).is_ok();
                    assert!(came || !is_owed, "client {} missed {number} although it was acknowledged", client.id);
                }
            }
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for client in &self.clients {
            for fate in &client.fates {
                match fate {
                    Fate::Acked => tally.acked += 1,
                    Fate::Refused(name) => *tally.refused.entry(name.clone()).or_default() += 1,
                    Fate::Lost => tally.lost += 1,
                    Fate::Pending => {}
                }
            }
            for epoch in &client.epochs {
                tally.deliveries += epoch.received.len();
                if let Some(end) = epoch.end {
                    *tally.ends.entry(format!("{end:?}")).or_default() += 1;
                }
            }
        }
        tally
    }

    /// How many connections have ended so far.
    pub(crate) fn ends(&self) -> usize {
        self.tally().ends.values().sum()
    }

    /// Connections that ended since the epochs that `before` counted, in one of the ways for which `which` holds.
    pub(crate) fn ended(&self, which: impl Fn(End) -> bool) -> usize {
        self.clients.iter().flat_map(|client| &client.epochs).filter(|epoch| epoch.end.is_some_and(&which)).count()
    }

    pub(crate) fn on_worker(&self, pid: u32) -> usize {
        self.clients.iter().filter(|client| client.worker_pid() == pid).count()
    }

    fn describe(&self) -> String {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for client in &self.clients {
            *states.entry(format!("{:?}", client.state)).or_default() += 1;
        }
        format!("{states:?}, {:?}", self.tally())
    }
}

fn ignore_interrupt(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}
