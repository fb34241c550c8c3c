//! Loopback addresses for the servers of one test process, which no other process uses at the same time.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The loopback addresses of this process.
pub(crate) fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    let process = std::process::id();
    let part = |shift: u32| u8::try_from(process >> shift & 0x7F).unwrap();
    let (a, b, half) = (100 + part(8), part(1), part(0) & 1);
    (0..120).map(move |last| Ipv4Addr::new(127, a, b, 1 + half * 120 + last))
}

/// An address that no other test of this process uses.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    addresses().nth(NEXT.fetch_add(1, Ordering::Relaxed)).expect("more servers than addresses")
}
