//! The messages of Nomad's plugin protocol that a task driver needs.
//!
//! The files in `proto/` were written for this crate. Names and numbers are those of Nomad 1.7 to 2.0; fields that a
//! Nomad version added after 1.7 are marked with it. Messages that no driver uses, those of device plugins and of
//! go-plugin's broker, are left out.
//!
//! Nomad's agent panics, or loses the task, when certain fields of an answer are missing, but prost makes every field
//! an `Option`. The functions in `constructors` require those fields, and nothing else should create these messages.

mod constructors;

pub use hashicorp::nomad::plugins::base::proto as base;
pub use hashicorp::nomad::plugins::drivers::proto as driver;
pub use hashicorp::nomad::plugins::shared::{hclspec, structs};

/// The packages, nested as the generated code expects: it refers to other packages by `super::super`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated code")]
#[allow(unreachable_pub, unused_qualifications, reason = "generated code")]
mod hashicorp {
    pub mod nomad {
        pub mod plugins {
            pub mod base {
                pub mod proto {
                    tonic::include_proto!("hashicorp.nomad.plugins.base.proto");
                }
            }
            pub mod drivers {
                pub mod proto {
                    tonic::include_proto!("hashicorp.nomad.plugins.drivers.proto");
                }
            }
            pub mod shared {
                pub mod hclspec {
                    tonic::include_proto!("hashicorp.nomad.plugins.shared.hclspec");
                }
                pub mod structs {
                    tonic::include_proto!("hashicorp.nomad.plugins.shared.structs");
                }
            }
        }
    }
}

/// The services of go-plugin itself.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod plugin {
    tonic::include_proto!("plugin");
}

/// The form in which gRPC carries the details of an error.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod rpc {
    tonic::include_proto!("google.rpc");
}
