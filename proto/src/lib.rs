//! The messages of Nomad's plugin protocol, as far as a task driver needs them.
//!
//! Several messages of the protocol have parts whose absence panics Nomad's agent or loses the task, but in Rust every
//! part is an `Option`. The constructors in `build` ask for each of them; nothing else should make these messages.

mod build;

pub use build::never;
pub use hashicorp::nomad::plugins::base::proto as base;
pub use hashicorp::nomad::plugins::drivers::proto as driver;
pub use hashicorp::nomad::plugins::shared::{hclspec, structs};

/// The packages, nested as the generated code expects: it refers to its siblings by `super::super`.
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

/// What go-plugin itself asks of every plugin.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod plugin {
    tonic::include_proto!("plugin");
}

/// The form in which gRPC carries the details of an error.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod rpc {
    tonic::include_proto!("google.rpc");
}
