//! Client addresses: how many sessions each has, and how many new connections it may still open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pg_leader_proxy_core::Moment;

const MINUTE: Duration = Duration::from_secs(60);
/// How many addresses without a session are remembered, for their rate of new connections. Those with one are as many as
/// the sessions at most.
const IDLE_MAX: usize = 65_536;

/// What one client address may have; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// How many sessions.
    pub sessions: Option<u32>,
    /// How many new connections in a minute, all at once or spread over it.
    pub connections_per_minute: Option<u32>,
}

/// The limit that a client address has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressLimit {
    /// It has this many sessions already.
    Sessions(u32),
    /// It has opened this many connections within a minute.
    ConnectionsPerMinute(u32),
}

/// The client addresses that are counted.
#[derive(Debug, Default)]
pub struct ClientAddresses(Mutex<Table>);

/// What limits apply to: an IPv4 address, or the first 64 bits of an IPv6 address. One client as a rule has a whole /64
/// (RFC 6177, RFC 8981) and could otherwise change its address for each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl From<IpAddr> for Origin {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => {
                let [a, b, c, d, e, f, g, h, ..] = addr.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Origin, Entry>,
    /// How many of them have no session.
    idle: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sessions: u32,
    /// A token bucket, as the moment at which it will be full again: each connection moves that on by its share of a minute.
    full_at: Moment,
}

impl Entry {
    /// Takes a token of the bucket, if there is one.
    fn take(&mut self, per_minute: u32, now: Moment) -> bool {
        let full_at = self.full_at.max(now) + MINUTE / per_minute.max(1);
        let taken = full_at.since(now) <= MINUTE;
        if taken {
            self.full_at = full_at;
        }
        taken
    }
}

impl ClientAddresses {
    /// Counts a session of this address, until [`leave`](Self::leave).
    ///
    /// # Errors
    /// The limit that it has reached; the session is not counted then.
    pub fn enter(&self, addr: IpAddr, limits: AddressLimits, now: Moment) -> Result<(), AddressLimit> {
        let mut table = self.table();
        let Table { entries, idle } = &mut *table;
        let origin = Origin::from(addr);
        let known = entries.get(&origin).copied();
        let mut entry = known.unwrap_or(Entry { sessions: 0, full_at: now });
        if let Some(limit) = limits.sessions.filter(|limit| entry.sessions >= *limit) {
            return Err(AddressLimit::Sessions(limit));
        }
        if let Some(limit) = limits.connections_per_minute.filter(|limit| !entry.take(*limit, now)) {
            return Err(AddressLimit::ConnectionsPerMinute(limit));
        }
        *idle -= usize::from(known.is_some_and(|known| known.sessions == 0));
        entry.sessions += 1;
        entries.insert(origin, entry);
        Ok(())
    }

    /// Counts a session less.
    pub fn leave(&self, addr: IpAddr, now: Moment) {
        let mut table = self.table();
        let origin = Origin::from(addr);
        let Some(entry) = table.entries.get_mut(&origin) else { return };
        entry.sessions -= 1;
        if entry.sessions > 0 {
            return;
        }
        if entry.full_at <= now {
            table.entries.remove(&origin);
            return;
        }
        table.idle += 1;
        if table.idle > IDLE_MAX {
            table.forget_idle(now);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock cannot leave the table inconsistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets the addresses without a session whose bucket is full again, and if they are few, all without a session. Half of
    /// the places are free afterwards, so that this is rare.
    fn forget_idle(&mut self, now: Moment) {
        self.entries.retain(|_, entry| entry.sessions > 0 || entry.full_at > now);
        self.idle = self.entries.values().filter(|entry| entry.sessions == 0).count();
        if self.idle > IDLE_MAX / 2 {
            self.entries.retain(|_, entry| entry.sessions > 0);
            self.idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(1000) + Duration::from_millis(millis))
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_may_have_so_many_sessions_and_others_have_their_own() {
        let addresses = ClientAddresses::default();
        let limits = AddressLimits { sessions: Some(2), connections_per_minute: None };
        let enter = |text| addresses.enter(addr(text), limits, at(0));
        assert_eq!([enter("10.0.0.1"), enter("::ffff:10.0.0.1")], [Ok(()), Ok(())]);
        assert_eq!(enter("10.0.0.1"), Err(AddressLimit::Sessions(2)));
        assert_eq!(enter("10.0.0.2"), Ok(()));
        assert_eq!([enter("2001:db8::1"), enter("2001:db8::2:1")], [Ok(()), Ok(())]);
        assert_eq!(enter("2001:db8::3"), Err(AddressLimit::Sessions(2)), "the same /64");
        assert_eq!(enter("2001:db8:0:1::3"), Ok(()));
        addresses.leave(addr("10.0.0.1"), at(1));
        assert_eq!(enter("10.0.0.1"), Ok(()));
    }

    #[test]
    fn new_connections_come_at_once_or_spread_over_a_minute() {
        let addresses = ClientAddresses::default();
        let limits = AddressLimits { sessions: None, connections_per_minute: Some(6) };
        let enter = |now| addresses.enter(addr("10.0.0.1"), limits, now);
        assert!((0..6).all(|_| enter(at(0)).is_ok()));
        assert_eq!(enter(at(9_999)), Err(AddressLimit::ConnectionsPerMinute(6)));
        assert_eq!(enter(at(10_000)), Ok(()));
        assert_eq!(
            enter(at(10_001)),
            Err(AddressLimit::ConnectionsPerMinute(6)),
            "a rejected one costs nothing"
        );
        assert!((2..30).all(|tens| enter(at(tens * 10_000)).is_ok()));
    }

    #[test]
    fn an_address_is_remembered_until_its_bucket_is_full_again() {
        let addresses = ClientAddresses::default();
        let limits = AddressLimits { sessions: None, connections_per_minute: Some(1) };
        addresses.enter(addr("10.0.0.1"), limits, at(0)).unwrap();
        addresses.leave(addr("10.0.0.1"), at(1));
        assert!(addresses.enter(addr("10.0.0.1"), limits, at(59_999)).is_err());
        addresses.enter(addr("10.0.0.1"), limits, at(60_000)).unwrap();
        addresses.leave(addr("10.0.0.1"), at(120_000));
        assert!(addresses.table().entries.is_empty());
    }

    #[test]
    fn addresses_without_a_session_are_bounded_and_those_with_one_are_kept() {
        let addresses = ClientAddresses::default();
        let limits = AddressLimits { sessions: Some(1), connections_per_minute: Some(1) };
        addresses.enter(addr("10.0.0.1"), limits, at(0)).unwrap();
        for number in 0..200_000_u32 {
            let other = IpAddr::from(Ipv4Addr::from(0x1400_0000 + number));
            addresses.enter(other, limits, at(1)).unwrap();
            addresses.leave(other, at(2));
            assert!(addresses.table().entries.len() <= IDLE_MAX + 1);
        }
        let table = addresses.table();
        assert_eq!(table.idle, table.entries.len() - 1);
        drop(table);
        assert_eq!(addresses.enter(addr("10.0.0.1"), limits, at(3)), Err(AddressLimit::Sessions(1)));
    }
}
