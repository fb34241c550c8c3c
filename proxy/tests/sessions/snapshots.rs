//! Snapshots: what the workers tell of their sessions, and ending some of them by request.

use std::time::Duration;

use pg_leader_proxy::counters::RejectionKind;
use pg_leader_proxy::route::RouteKind;
use pg_leader_proxy::session::{SessionSelector, SessionSnapshot, SessionState};
use pg_leader_proxy::worker::Terminated;
use pg_leader_proxy_core::MemberName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::WIDE;
use crate::fake::{
    AUTH_OK, BOUND, FakeServer, OTHER_STARTUP, Rig, STARTUP, bounded, error, expect, rest, settings,
};

/// A client that asks for TLS first.
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

async fn sessions(rig: &Rig) -> Vec<SessionSnapshot> {
    bounded(rig.workers.sessions_handle().snapshot()).await.unwrap().into_sessions().collect()
}

/// The sessions, once there are this many in this state.
pub(crate) async fn sessions_in(rig: &Rig, state: SessionState, count: usize) -> Vec<SessionSnapshot> {
    let waiting = async {
        loop {
            let mut sessions = sessions(rig).await;
            sessions.retain(|session| session.state == state);
            if sessions.len() == count {
                return sessions;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(BOUND, waiting).await.unwrap_or_else(|_| panic!("never {count} sessions {state:?}"))
}

async fn terminate(rig: &Rig, selector: SessionSelector) -> Terminated {
    bounded(rig.workers.sessions_handle().terminate(&selector)).await.unwrap()
}

/// A client that waits because there is no leader.
async fn held(rig: &Rig, startup: &[u8]) -> TcpStream {
    let mut client = rig.client().await;
    client.write_all(startup).await.unwrap();
    client
}

#[tokio::test]
async fn a_relayed_session_shows_its_client_its_member_and_the_port_that_its_server_sees() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    client.write_all(b"Q\0\0\0\x05\0").await.unwrap();
    expect(&mut served, b"Q\0\0\0\x05\0").await;
    let session = sessions_in(&rig, SessionState::Relaying, 1).await.remove(0);
    assert_eq!(session.client, client.local_addr().unwrap());
    assert_eq!(session.server_port, Some(served.peer_addr().unwrap().port()));
    assert_eq!((session.route, session.member), (RouteKind::Write, Some(MemberName::new("a"))));
    let identity = session.identity.unwrap();
    assert_eq!((identity.user(), identity.database(), identity.application_name()), ("anna", "anna", ""));
    assert_eq!((session.bytes_to_server, session.bytes_to_client), (6, AUTH_OK.len() as u64));
    assert!(session.idle.is_some_and(|idle| idle <= session.age));
}

#[tokio::test]
async fn a_held_client_is_shown_and_can_be_terminated() {
    let rig = Rig::with_defaults().await;
    let mut client = held(&rig, STARTUP).await;
    let mut other = held(&rig, OTHER_STARTUP).await;
    let sessions = sessions_in(&rig, SessionState::Held, 2).await;
    assert!(sessions[0].id < sessions[1].id && sessions.iter().all(|session| session.member.is_none()));
    let done = terminate(&rig, SessionSelector::User("anna".to_owned())).await;
    assert_eq!(done, Terminated { sessions: 1, unreadable: 0 });
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(
        (state.as_str(), text.as_str()),
        ("57P01", "terminating connection due to administrator command: ")
    );
    let left = sessions_in(&rig, SessionState::Held, 1).await;
    assert_eq!(left[0].client, other.local_addr().unwrap());
    assert_eq!(rig.counters.route(RouteKind::Write).rejections(RejectionKind::Terminated).value(), 1);
    terminate(&rig, SessionSelector::Id(left[0].id)).await;
    assert_eq!(error(&rest(&mut other).await.0).0, "57P01");
}

#[tokio::test]
async fn a_client_that_was_denied_encryption_has_a_user_and_an_encrypted_one_has_none() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let mut opened = Vec::new();
    for (answer, next) in [(b"N", STARTUP), (b"S", b"\x16\x03\x01\0\x01\0")] {
        let mut client = rig.client().await;
        client.write_all(SSL_REQUEST).await.unwrap();
        let mut served = server.accept().await;
        expect(&mut served, SSL_REQUEST).await;
        served.write_all(answer).await.unwrap();
        expect(&mut client, answer).await;
        client.write_all(next).await.unwrap();
        expect(&mut served, next).await;
        if answer == b"N" {
            served.write_all(AUTH_OK).await.unwrap();
            expect(&mut client, AUTH_OK).await;
        }
        opened.push((client, served));
    }
    let sessions = sessions_in(&rig, SessionState::Relaying, 2).await;
    let users: Vec<Option<&str>> =
        sessions.iter().map(|session| session.identity.as_ref().map(|identity| identity.user())).collect();
    assert_eq!(users, [Some("anna"), None]);
    let done = terminate(&rig, SessionSelector::User("anna".to_owned())).await;
    assert_eq!(done, Terminated { sessions: 1, unreadable: 1 });
}

#[tokio::test]
async fn a_terminated_session_is_told_so_and_the_others_go_on() {
    let server = FakeServer::start().await;
    let mut rig = Rig::with_defaults().await;
    rig.make_leader(&server);
    let (mut client, mut served) = rig.open_session(&server).await;
    let (mut other, mut other_served) = rig.open_session(&server).await;
    let sessions = sessions_in(&rig, SessionState::Relaying, 2).await;
    let meant = sessions.iter().find(|session| session.client == client.local_addr().unwrap()).unwrap();
    assert_eq!(terminate(&rig, SessionSelector::Id(meant.id)).await.sessions, 1);
    let (state, text) = error(&rest(&mut client).await.0);
    assert_eq!(
        (state.as_str(), text.as_str()),
        ("57P01", "terminating connection due to administrator command: ")
    );
    assert_eq!(rest(&mut served).await.1, Err(std::io::ErrorKind::ConnectionReset));
    other.write_all(b"x").await.unwrap();
    expect(&mut other_served, b"x").await;
    assert_eq!(terminate(&rig, SessionSelector::Id(meant.id)).await.sessions, 0, "it has ended already");
    assert_eq!(terminate(&rig, SessionSelector::Member(MemberName::new("b"))).await.sessions, 0);
    assert_eq!(terminate(&rig, SessionSelector::Member(MemberName::new("a"))).await.sessions, 1);
    assert_eq!(error(&rest(&mut other).await.0).0, "57P01");
    assert_eq!(rig.epoch_counters().terminated(), 0, "no change of leader ended them");
}

#[tokio::test]
async fn more_sessions_than_a_page_are_all_shown_once_while_they_move_between_workers() {
    let server = FakeServer::start().await;
    let mut rig = Rig::start(settings(), 2, WIDE).await;
    rig.make_leader(&server);
    let mut opened = Vec::new();
    for _ in 0..300 {
        opened.push(rig.open_session(&server).await);
        // Many of them are on their way to the other worker.
        let shown = sessions(&rig).await;
        assert!(opened.len() <= shown.len() + 1, "{} of {}", shown.len(), opened.len());
    }
    let shown = sessions_in(&rig, SessionState::Relaying, opened.len()).await;
    let mut clients: Vec<_> = shown.iter().map(|session| session.client).collect();
    let mut expected: Vec<_> = opened.iter().map(|(client, _)| client.local_addr().unwrap()).collect();
    clients.sort();
    expected.sort();
    assert_eq!(clients, expected);
}

#[tokio::test]
async fn more_held_clients_than_a_page_are_all_shown() {
    let rig =
        Rig::start(settings(), 1, pg_leader_proxy::admission::GateLimits { max_held: 1000, ..WIDE }).await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(held(&rig, STARTUP).await);
    }
    let shown = sessions_in(&rig, SessionState::Held, clients.len()).await;
    assert!(shown.is_sorted_by_key(|session| session.id));
}
