//! Cancel requests, which go to every server that may have the session to cancel.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use super::{SessionSettings, Shared};
use crate::admission::Target;
use crate::clock;
use crate::net;
use crate::route::RouteKind;

/// Sends `packet` to the servers of `route` and waits until they have handled it.
///
/// A cancel key of another server does no harm. Like a server, the proxy sends no answer: the client knows that the
/// request was delivered when the connection closes.
pub(super) async fn forward(shared: &Shared, route: RouteKind, settings: &SessionSettings, packet: &[u8]) {
    let targets: Vec<Target> = shared.targets.borrow().all(route).to_vec();
    let deliveries = targets.iter().map(async |target| {
        shared.counters.route(route).cancels.increment();
        if let Err(error) = net::within(settings.connect_timeout, deliver(target, settings, packet)).await {
            debug!(member = %target.member, %error, "cancel request not delivered");
        }
    });
    join_all(deliveries).await;
}

async fn deliver(target: &Target, settings: &SessionSettings, packet: &[u8]) -> std::io::Result<()> {
    let mut server = net::connect(target.socket, settings.connect_timeout, &settings.socket).await?;
    if !target.grant.allows(clock::now()) {
        return Ok(());
    }
    server.write_all(packet).await?;
    // The server closes the connection once it has signalled the backend.
    let mut nothing = [0; 1];
    server.read(&mut nothing).await.map(drop)
}
