//! A proxy with a supervisor: it inherits sockets, follows commands, and sends events.
#![allow(clippy::unwrap_used)]

mod primary;
mod run;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pg_leader_proxy::app::{self, Reload, SupervisorCommand, SupervisorLink};
use primary::Primary;
use run::{
    A_WHILE, Run, STARTUP, answers, bounded, config, connect_client, duplicates, free_address, last_message,
    no_reload, receives_nothing, served, session, sockets,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// So many that each of three sockets gets at least one, with a chance of failure of one in ten million.
const CLIENTS: usize = 40;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);
/// What counts as "at once" on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn every_inherited_socket_is_accepted_from_and_keeps_its_backlog() {
    let primary = Primary::start().await;
    for (inherited_count, workers) in [(2, 2), (3, 1), (1, 3), (3, 2)] {
        let inherited = sockets(inherited_count);
        let addr = inherited[0].local_addr().unwrap();
        let config = config(&primary, &[addr], workers);
        let first = Run::start(config.clone(), duplicates(&inherited), no_reload()).await;
        for _ in 0..CLIENTS {
            session(addr).await;
        }
        first.command(SupervisorCommand::Drain(LONG)).await;
        first.ended().await;

        let mut waiting = Vec::new();
        for _ in 0..CLIENTS {
            waiting.push(connect_client(addr).await);
        }
        assert!(receives_nothing(&mut waiting[0]).await, "{inherited_count} sockets, {workers} workers");
        let second = Run::start(config, duplicates(&inherited), no_reload()).await;
        for client in &mut waiting {
            served(client).await;
        }
        second.command(SupervisorCommand::Drain(Duration::ZERO)).await;
        second.ended().await;
    }
}

#[tokio::test]
async fn a_draining_process_leaves_new_clients_to_its_successor() {
    let primary = Primary::start().await;
    let inherited = sockets(2);
    let addr = inherited[0].local_addr().unwrap();
    let first = Run::start(config(&primary, &[addr], 2), duplicates(&inherited), no_reload()).await;
    let mut open = session(addr).await;
    first.command(SupervisorCommand::Drain(LONG)).await;
    answers(&mut open).await;
    tokio::time::sleep(A_WHILE).await;

    let mut waiting = Vec::new();
    for _ in 0..CLIENTS {
        waiting.push(connect_client(addr).await);
    }
    assert!(receives_nothing(&mut waiting[0]).await, "the draining process must not accept");
    answers(&mut open).await;

    let second = Run::start(config(&primary, &[addr], 1), duplicates(&inherited), no_reload()).await;
    for client in &mut waiting {
        served(client).await;
    }
    answers(&mut open).await;
    assert!(!first.has_ended(), "the first process still has the open session");
    drop(open);
    first.ended().await;
    for client in &mut waiting {
        answers(client).await;
    }
    drop(second);
}

#[tokio::test]
async fn no_client_fails_while_one_process_replaces_another() {
    let primary = Primary::start().await;
    let inherited = sockets(2);
    let addr = inherited[0].local_addr().unwrap();
    let first = Run::start(config(&primary, &[addr], 2), duplicates(&inherited), no_reload()).await;
    let arriving = tokio::spawn(async move {
        let mut clients = JoinSet::new();
        let mut every = tokio::time::interval(Duration::from_millis(5));
        for _ in 0..500 {
            every.tick().await;
            clients.spawn(async move {
                let began = Instant::now();
                answers(&mut session(addr).await).await;
                began.elapsed()
            });
        }
        clients.join_all().await
    });
    tokio::time::sleep(A_WHILE).await;
    first.command(SupervisorCommand::Drain(LONG)).await;
    first.ended().await;
    tokio::time::sleep(A_WHILE).await;
    let second = Run::start(config(&primary, &[addr], 3), duplicates(&inherited), no_reload()).await;
    let took = arriving.await.expect("a client failed");
    let slowest = took.iter().max().unwrap();
    assert!((A_WHILE..AT_ONCE).contains(slowest), "{slowest:?}");
    assert_eq!(took.len(), 500);
    drop(second);
}

#[tokio::test]
async fn a_draining_process_serves_the_backlog_of_its_own_sockets_and_stops_listening() {
    let primary = Primary::start().await;
    let addr = free_address();
    let run = Run::start(config(&primary, &[addr], 2), Vec::new(), no_reload()).await;
    let mut open = session(addr).await;
    let mut last = Vec::new();
    for _ in 0..CLIENTS {
        last.push(connect_client(addr).await);
    }
    run.command(SupervisorCommand::Drain(LONG)).await;
    for client in &mut last {
        served(client).await;
    }
    let gone = async { while TcpStream::connect(addr).await.is_ok() {} };
    bounded(gone).await;
    answers(&mut open).await;
    drop((open, last));
    run.ended().await;
}

#[tokio::test]
async fn addresses_without_an_inherited_socket_are_bound() {
    let primary = Primary::start().await;
    let inherited = sockets(1);
    let (inherited_addr, own_addr) = (inherited[0].local_addr().unwrap(), free_address());
    let config = config(&primary, &[inherited_addr, own_addr], 2);
    assert_eq!(app::addresses(&config), [inherited_addr, own_addr]);
    let run = Run::start(config, duplicates(&inherited), no_reload()).await;
    session(inherited_addr).await;
    session(own_addr).await;
    run.command(SupervisorCommand::Drain(LONG)).await;
    run.ended().await;
    assert!(TcpStream::connect(own_addr).await.is_err(), "the process closed this one");
    assert!(receives_nothing(&mut connect_client(inherited_addr).await).await);
}

#[tokio::test]
async fn an_inherited_socket_without_a_route_is_an_error_with_its_address() {
    let primary = Primary::start().await;
    let (wanted, stray) = (sockets(1), sockets(1));
    let addr = stray[0].local_addr().unwrap();
    let config = config(&primary, &[wanted[0].local_addr().unwrap()], 1);
    let (ready, ready_receiver) = oneshot::channel();
    let listeners = duplicates(&wanted).into_iter().chain(stray).collect();
    let link = SupervisorLink { listeners, ready: Some(ready), ..SupervisorLink::default() };
    let refused = tokio::task::spawn_blocking(|| app::run(config, no_reload(), link)).await.unwrap();
    assert_eq!(
        refused.unwrap_err().to_string(),
        format!("no route listens on {addr}, the address of an inherited socket")
    );
    assert!(ready_receiver.await.is_err(), "a process that does not start is not ready");
}

#[tokio::test]
async fn a_process_that_cannot_listen_is_not_ready() {
    let primary = Primary::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let config = config(&primary, &[addr], 1);
    let (ready, ready_receiver) = oneshot::channel();
    let link = SupervisorLink { ready: Some(ready), ..SupervisorLink::default() };
    let refused = tokio::task::spawn_blocking(|| app::run(config, no_reload(), link)).await.unwrap();
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("write.listen: cannot listen on {addr}, because another program does"))
    );
    assert!(ready_receiver.await.is_err());
}

#[tokio::test]
async fn after_the_drain_time_sessions_are_terminated() {
    let primary = Primary::start().await;
    let addr = free_address();
    let run = Run::start(config(&primary, &[addr], 1), Vec::new(), no_reload()).await;
    let mut open = session(addr).await;
    let began = Instant::now();
    run.command(SupervisorCommand::Drain(Duration::from_secs(1))).await;
    answers(&mut open).await;
    assert!(last_message(&mut open).await.contains("57P01"));
    assert!((Duration::from_secs(1)..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
    run.ended().await;
}

#[tokio::test]
async fn a_client_whose_first_packet_comes_after_the_drain_gets_an_error() {
    let primary = Primary::start().await;
    let addr = free_address();
    let run = Run::start(config(&primary, &[addr], 1), Vec::new(), no_reload()).await;
    let mut late = TcpStream::connect(addr).await.unwrap();
    let mut open = session(addr).await;
    run.command(SupervisorCommand::Drain(Duration::ZERO)).await;
    assert!(last_message(&mut open).await.contains("57P01"));
    late.write_all(STARTUP).await.unwrap();
    let error_text = last_message(&mut late).await;
    assert!(
        error_text.contains("57P03") && error_text.contains("the proxy is shutting down"),
        "{error_text}"
    );
    run.ended().await;
}

#[tokio::test]
async fn of_several_drain_commands_the_one_that_ends_first_counts() {
    let primary = Primary::start().await;
    let addr = free_address();
    let run = Run::start(config(&primary, &[addr], 1), Vec::new(), no_reload()).await;
    let mut open = session(addr).await;
    run.command(SupervisorCommand::Drain(LONG)).await;
    answers(&mut open).await;
    run.command(SupervisorCommand::Drain(Duration::ZERO)).await;
    run.command(SupervisorCommand::Drain(LONG)).await;
    assert!(last_message(&mut open).await.contains("57P01"));
    run.ended().await;
}

#[tokio::test]
async fn without_its_supervisor_a_process_stops_at_once() {
    let primary = Primary::start().await;
    for draining in [false, true] {
        let inherited = sockets(1);
        let addr = inherited[0].local_addr().unwrap();
        let mut run = Run::start(config(&primary, &[addr], 2), duplicates(&inherited), no_reload()).await;
        let mut open = session(addr).await;
        if draining {
            run.command(SupervisorCommand::Drain(LONG)).await;
            answers(&mut open).await;
        }
        let began = Instant::now();
        drop(run.commands.take());
        assert!(last_message(&mut open).await.contains("57P01"));
        run.ended().await;
        assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_reload_command_keeps_the_sessions_and_the_inherited_addresses() {
    let primary = Primary::start().await;
    let inherited = sockets(1);
    let (inherited_addr, own_addr) = (inherited[0].local_addr().unwrap(), free_address());
    let next = [config(&primary, &[own_addr], 2), config(&primary, &[inherited_addr, own_addr], 2)];
    let reloads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reloads);
    let reload = Reload::new(move || Ok(next[counted.fetch_add(1, Ordering::SeqCst)].clone()));
    let run = Run::start(config(&primary, &[inherited_addr], 2), duplicates(&inherited), reload).await;
    let mut open = session(inherited_addr).await;

    run.command(SupervisorCommand::Reload).await;
    bounded(async {
        while reloads.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    tokio::time::sleep(A_WHILE).await;
    assert!(
        TcpStream::connect(own_addr).await.is_err(),
        "a configuration without an inherited address is rejected"
    );
    session(inherited_addr).await;

    run.command(SupervisorCommand::Reload).await;
    bounded(async { while TcpStream::connect(own_addr).await.is_err() {} }).await;
    session(own_addr).await;
    answers(&mut open).await;
    drop(run);
}

#[tokio::test]
async fn the_supervisor_receives_events() {
    let primary = Primary::start().await;
    let addr = free_address();
    let mut run = Run::start(config(&primary, &[addr], 1), Vec::new(), no_reload()).await;
    let name = primary.addr;
    let first = bounded(run.events.recv()).await.unwrap();
    assert_eq!(
        (first.kind.as_str(), first.to_string()),
        ("leader", format!("leader is {name} (timeline 4)"))
    );
    assert_eq!(first.annotations["member"], name.to_string());

    let mut open = session(addr).await;
    primary.set_in_recovery(true);
    assert!(last_message(&mut open).await.contains("57P01"));
    let fenced = bounded(run.events.recv()).await.unwrap();
    let sentence = "no leader for 3 s: every member is in recovery; clients are held";
    assert_eq!((fenced.kind.as_str(), fenced.to_string()), ("fenced", sentence.to_owned()));

    let mut held = connect_client(addr).await;
    assert!(receives_nothing(&mut held).await);
    primary.set_in_recovery(false);
    served(&mut held).await;
    let resumed = bounded(run.events.recv()).await.unwrap();
    assert_eq!(resumed.kind, "resumed");
    let begin = format!("leader is {name} (timeline 4) again: 1 session terminated, 1 client held, after ");
    assert!(resumed.message.starts_with(&begin), "{resumed}");
    assert_eq!(
        (resumed.annotations["terminated"].as_str(), resumed.annotations["held"].as_str()),
        ("1", "1")
    );
    drop(run);
}
