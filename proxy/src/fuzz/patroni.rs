//! The values that Patroni writes.

use std::time::Duration;

use pg_leader_proxy_core::Moment;

use crate::net::SocketOptions;
use crate::route::RouteKind;
use crate::session::{ClientLimits, SessionSettings};
use crate::sources::patroni::{self, Key, server_addr};

/// Every value is read or refused, what was read can be used, and a password never gets into a host.
///
/// # Panics
/// If that is not so.
pub fn patroni_values(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(Key::Member(name)) = Key::parse(&text) {
        assert_eq!(text, format!("members/{name}"));
    }
    if let Ok(config) = patroni::config(data) {
        assert!(!config.ttl.is_zero(), "a lease without length");
        // What the shell makes of it: until when a client waits.
        let _ = Moment::default() + settings().hold_timeout(RouteKind::Write, config.ttl);
    }
    if let Ok(name) = patroni::leader(data) {
        assert_eq!(name.as_str().trim(), name.as_str());
        assert!(!name.as_str().is_empty());
    }
    if let Ok(Some(id)) = patroni::initialize(data) {
        assert_eq!(patroni::initialize(id.0.to_string().as_bytes()).unwrap(), Some(id));
    }
    if let Ok(member) = patroni::member(data) {
        assert!(member.conn.port() > 0 && !member.conn.host().is_empty());
    }
    patroni::failsafe(data);
    patroni::switchover(data);
    urls(&text);
}

/// The host of a URL does not depend on user and password.
fn urls(text: &str) {
    let (login, servers) = text.split_once('\n').unwrap_or(("", text));
    let with_login = server_addr(&format!("postgres://{login}@{servers}"));
    if login.contains(['/', '?', '#']) {
        assert_eq!(with_login, None, "nobody knows where the password ends");
    } else {
        assert_eq!(with_login, server_addr(&format!("postgres://{servers}")), "the login changes the host");
    }
}

fn settings() -> SessionSettings {
    let second = Duration::from_secs(1);
    SessionSettings {
        limits: ClientLimits { sessions: 1, rejected_at_once: 1 },
        access: None,
        startup_timeout: second,
        connect_timeout: second,
        write_hold_timeout: None,
        read_hold_timeout: second,
        socket: SocketOptions { keepalive: second, user_timeout: second },
        log_sessions: false,
    }
}
