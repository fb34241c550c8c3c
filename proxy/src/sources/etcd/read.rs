//! Linearizable reads of all keys of the cluster and of the leader's lease.

use std::time::Duration;

use etcd_client::{GetResponse, KeyValue, LeaseTimeToLiveResponse, ResponseHeader};
use pg_leader_proxy_core::{Moment, Stamped};

use super::connect::Endpoint;
use super::error::EtcdError;
use crate::clock;

/// How many times to read when the lease's answer does not match the keys, before the read is returned without a lease.
const ATTEMPTS: usize = 3;

/// The result of a read.
#[derive(Debug)]
pub(super) struct ReadResult {
    pub(super) cluster: u64,
    pub(super) revision: i64,
    pub(super) kvs: Vec<KeyValue>,
    /// The remaining lease of the leader key, stamped with when the read was sent.
    pub(super) lease: Option<Stamped<Duration>>,
    /// When the last answer arrived.
    pub(super) seen: Moment,
}

/// Reads everything below `prefix`, and the time to live of the lease of the key `leader`.
///
/// The stamp is from before the first of the two requests. The lease only counts if both answers are from the same raft
/// term, because after an election the time to live may be wrong (etcd#17506).
pub(super) async fn read(endpoint: Endpoint, prefix: String) -> Result<ReadResult, EtcdError> {
    let leader = format!("{prefix}leader");
    let mut attempt = 1;
    loop {
        let sent = clock::now();
        let mut range = endpoint.range(&prefix).await?;
        let header = range.take_header().ok_or_else(|| no_header(&endpoint))?;
        let lease = lease_of(&range, leader.as_bytes());
        let remaining = match lease {
            Some(lease) => confirmed(&header, &endpoint.time_to_live(lease).await?),
            None => None,
        };
        if remaining.is_some() || lease.is_none() || attempt == ATTEMPTS {
            return Ok(ReadResult {
                cluster: header.cluster_id(),
                revision: header.revision(),
                kvs: range.take_kvs(),
                lease: remaining.map(|fact| Stamped { sent, fact }),
                seen: clock::now(),
            });
        }
        attempt += 1;
    }
}

/// The lease of the leader key, if the key exists and has one.
fn lease_of(range: &GetResponse, leader: &[u8]) -> Option<i64> {
    let kv = range.kvs().iter().find(|kv| kv.key() == leader)?;
    (kv.lease() != 0).then_some(kv.lease())
}

/// The remaining time to live, if the answer matches the read of the keys.
///
/// etcd truncates it to whole seconds (`int64(remaining.Seconds())`), which is on the safe side. An etcd member that has
/// just lost its raft leadership may return "for ever", so it is capped at the granted time.
fn confirmed(read: &ResponseHeader, answer: &LeaseTimeToLiveResponse) -> Option<Duration> {
    let same_term = answer.header().is_some_and(|header| header.raft_term() == read.raft_term());
    remaining(same_term, answer.ttl(), answer.granted_ttl())
}

fn remaining(same_term: bool, ttl: i64, granted: i64) -> Option<Duration> {
    // A negative time means that the lease is gone, and so the key must be gone too: read again.
    let seconds = u64::try_from(ttl.min(granted)).ok()?;
    same_term.then(|| Duration::from_secs(seconds))
}

fn no_header(endpoint: &Endpoint) -> EtcdError {
    EtcdError::NoHeader { endpoint: endpoint.url().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_counts_only_in_the_term_of_the_read_and_is_capped_at_the_granted_time() {
        assert_eq!(remaining(true, 29, 30), Some(Duration::from_secs(29)));
        assert_eq!(remaining(true, 0, 30), Some(Duration::ZERO));
        assert_eq!(remaining(true, 9_223_372_036, 30), Some(Duration::from_secs(30)));
        assert_eq!(remaining(true, -1, 0), None);
        assert_eq!(remaining(false, 29, 30), None);
    }
}
