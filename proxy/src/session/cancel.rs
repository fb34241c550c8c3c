//! Cancel requests: passed to every server that the session to be cancelled may be on.

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use super::{SessionSettings, Shared};
use crate::admission::Target;
use crate::clock;
use crate::net;
use crate::route::RouteKind;

/// Passes `packet` to the servers of `route` and returns when they have taken it.
///
/// A secret that is not of a server does no harm there. The client is not answered, as a server would not answer it;
/// that the connection closes tells it that the request was delivered.
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
    let mut server = net::connect(&target.addr, settings.connect_timeout, &settings.socket).await?;
    if !target.grant.allows(clock::now()) {
        return Ok(());
    }
    server.write_all(packet).await?;
    // The server closes the connection once it has sent the signal.
    let mut nothing = [0; 1];
    server.read(&mut nothing).await.map(drop)
}
