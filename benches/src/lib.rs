//! What the proxy costs and how fast it fails over, beside its peers in one run.
//!
//! The failover benchmark ([`failover`]) starts one cluster of the [`lab`] and every way to its leader at the same
//! time ([`contenders`]), lets switchovers and leader deaths happen ([`event`]), judges what the clients of each
//! contender saw ([`measure`]), and tells it: as text and Markdown ([`report`]), as JSON ([`results`]), as a picture
//! ([`plot`]). The benchmark of the wire ([`wire`]) measures what each way to a server costs while nothing fails, with
//! the [`floor`] as the limit. `benches/README.md` says what the figures mean.

pub mod contenders;
pub mod event;
pub mod failover;
pub mod floor;
pub mod haproxy;
pub mod machine;
pub mod measure;
pub mod output;
pub mod plot;
pub mod polling;
pub mod report;
pub mod results;
pub mod statistics;
pub mod table;
pub mod wire;
