//! Access: which client addresses may connect, how often, and which balancers tell them by a PROXY protocol header.

use std::net::IpAddr;

use super::addresses::AddressLimits;
use crate::networks::Networks;
use crate::route::RouteKind;

/// Who may connect. What is not set restricts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// For the write route.
    pub write: RouteAccess,
    /// For the read route.
    pub read: RouteAccess,
    /// What one client address may have, over both routes.
    pub limits: AddressLimits,
}

/// Who may connect to one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAccess {
    /// The networks of its clients; `None` for all.
    pub allowed: Option<Networks>,
    /// The networks of balancers, whose connections begin with a PROXY protocol header.
    pub balancers: Networks,
}

impl Access {
    /// The rules of one route.
    pub const fn of(&self, route: RouteKind) -> &RouteAccess {
        match route {
            RouteKind::Write => &self.write,
            RouteKind::Read => &self.read,
        }
    }
}

impl RouteAccess {
    /// Whether clients with this address may connect.
    pub fn allows(&self, client: IpAddr) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(client))
    }
}
