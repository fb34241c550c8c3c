//! What the processes say to each other. Each message is one line of JSON, see [`Channel`](super::channel::Channel).
//!
//! ```text
//! plugin, or another supervisor ── Request, Reply ── supervisor ── Order, Report ── relay
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pg_leader_proxy::app::EventRecord;
use pg_leader_proxy::config::Given;
use serde::{Deserialize, Serialize};

use super::launch::{Launch, StartError};
use super::record::{Exit, Record};
use crate::resources::Cgroups;
use crate::signal::Signal;

/// How many sockets one message carries; a longer list takes several messages.
pub const SOCKETS_PER_MESSAGE: usize = 64;

/// What a supervisor is asked. A conversation holds one request, and what belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start this task. Answered by `Up` or `NotStarted`. The task is ended again unless `Taken` follows upon `Up`.
    Launch(Box<Launch>),
    /// What was given has arrived, and is the asker's now.
    Taken,
    /// Answered by `Description`.
    Describe,
    /// Tell when the relay has ended. Answered by `Ended`, then.
    Wait,
    /// End the relay. Answered by `Ended`, then.
    Stop {
        /// How long it may take.
        patience: Duration,
        /// The signal to send; without one, or for SIGTERM and SIGINT, the relay is told to drain.
        signal: Option<Signal>,
    },
    /// Send the relay this signal. Answered by `Done` or `Failed`.
    Signal(Signal),
    /// Tell the news. Answered by `News` for each, as they come, and by `Ended` when there will be no more.
    Follow,
    /// The news up to this number have been passed on, and need not be kept. No answer.
    Delivered(u64),
    /// Give away the listening sockets of these addresses, if the relay has ended or drains. Answered by `Sockets`, the last of
    /// which is empty; the asker then says `Taken`.
    Yield(Vec<SocketAddr>),
    /// End the relay if it still runs, and leave nothing behind in the end. Answered by `Done`.
    Destroy,
}

/// What a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The relay is up.
    Up(Record),
    /// The relay did not come up.
    NotStarted(StartError),
    /// What there is here.
    Description(Box<Description>),
    /// The relay has ended.
    Ended(Exit),
    /// One piece of news.
    News(Dispatch),
    /// As many descriptors come with it, each of a socket that listens on this address.
    Sockets(Vec<SocketAddr>),
    /// It is done.
    Done,
    /// It cannot be done.
    Failed(String),
}

/// What a supervisor has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// What was to be started, if that has been said yet.
    pub launch: Option<Launch>,
    /// What is running, or was, once it is up.
    pub record: Option<Record>,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// A piece of news on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Its number; they grow by one.
    pub number: u64,
    /// When the supervisor heard of it.
    pub at: SystemTime,
    /// What the relay said.
    pub news: EventRecord,
}

/// What a supervisor tells its relay.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// The first message: what to become, and what to run.
    Settle(Box<Settlement>),
    /// As many descriptors come with it, each of a socket that listens on this address. An empty list is the last.
    Sockets(Vec<SocketAddr>),
    /// Accept nobody any more, sever what is left after so long, and end.
    Drain(Duration),
    /// Read the configuration again.
    Reload,
}

/// What a relay has to become, and to run. Its environment and its standard streams it was born with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Settlement {
    /// The settings of the job.
    pub settings: Vec<Given>,
    /// The directory to work in.
    pub directory: PathBuf,
    /// Whom to become.
    pub user: Option<String>,
    /// Which cgroups to join.
    pub cgroups: Cgroups,
    /// What to put into `/proc/self/oom_score_adj`.
    pub oom_score_adj: i32,
}

/// What a relay tells its supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// It wants sockets that listen on these addresses. Answered by `Order::Sockets`.
    Wants(Vec<SocketAddr>),
    /// It listens.
    Up,
    /// It cannot start, and ends.
    NotStarted(StartError),
    /// Something worth telling an operator.
    News(EventRecord),
}
