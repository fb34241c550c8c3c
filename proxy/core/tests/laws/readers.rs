//! The laws of the read route.

use std::collections::{BTreeMap, BTreeSet};

use pg_leader_proxy_core::{Admission, OpenSessions, ReadFallback};

use crate::check_law::check_law;
use crate::judged::{each, ensure};
use crate::oracle;

#[test]
fn readers_go_where_the_table_lets_them_and_nowhere_else() {
    check_law("readers by the table", |steps, player| {
        each(steps, player, |snapshot, oracle| {
            let (read, write) = (&snapshot.routing.read, &snapshot.routing.write);
            for server in read.servers() {
                let others = read
                    .servers()
                    .iter()
                    .any(|other| other.server != server.server && other.admission == Admission::Open);
                let admits = oracle.admits_readers(server, write, others);
                ensure(admits == (server.admission == Admission::Open), || {
                    format!("at {} the table says {admits} of {server:?}", snapshot.at)
                })?;
            }
            Ok(())
        })
    });
}

#[test]
fn readers_end_only_by_the_table_and_leave_a_server_that_was_promoted() {
    check_law("readers stay", |steps, player| {
        each(steps, player, |snapshot, oracle| {
            let (servers, leader) = (snapshot.routing.read.servers(), snapshot.routing.write.leader());
            for server in oracle.standing_readers() {
                let now = servers.iter().find(|now| now.epoch == server.epoch);
                let polite = server.open_sessions == OpenSessions::EndWhenIdle;
                let led = oracle.standing().is_some_and(|leader| leader.server() == server.server);
                ensure(now.is_some() || polite || led || oracle.ends_readers(server, leader), || {
                    format!("at {} readers of {} end", snapshot.at, server.member)
                })?;
            }
            let stay = oracle.options().read_fallback == ReadFallback::Leader;
            for server in servers {
                let promoted = oracle.primary_names().contains(&server.member)
                    && oracle
                        .reply_at(&server.member, server.socket)
                        .is_some_and(|(_, reply)| oracle::is_primary(reply));
                let ends = server.open_sessions == OpenSessions::EndWhenIdle;
                ensure(stay || ends == promoted || !promoted, || format!("{} was promoted", server.member))?;
            }
            Ok(())
        })
    });
}

#[test]
fn every_server_of_the_read_route_has_a_moment_until_which_it_may_be_read() {
    check_law("readers have a limit", |_, player| {
        let Some(end) = player.trail.last() else { return Ok(()) };
        for server in end.routing.read.servers() {
            let until = player.router.read_valid_until(server.epoch);
            ensure(until.is_some(), || format!("{} has no end", server.member))?;
            ensure(end.deadline <= until || until <= Some(end.at), || {
                format!("{} is read past {until:?}", server.member)
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_server_that_left_the_read_route_comes_back_in_another_epoch() {
    check_law("read epochs", |_, player| {
        let (mut present, mut past) = (BTreeMap::new(), BTreeSet::new());
        for snapshot in &player.trail {
            let servers = snapshot.routing.read.servers().iter();
            let next: BTreeMap<_, _> = servers.clone().map(|server| (server.epoch, server.server)).collect();
            ensure(next.len() == servers.len(), || "two servers share an epoch".to_owned())?;
            for (epoch, server) in &next {
                ensure(!past.contains(epoch), || format!("{server:?} comes back in epoch {epoch}"))?;
                let known = present.get(epoch).unwrap_or(server);
                ensure(known == server, || format!("epoch {epoch} of {known:?} goes to {server:?}"))?;
            }
            past.extend(present.into_keys().filter(|epoch| !next.contains_key(epoch)));
            present = next;
        }
        Ok(())
    });
}
