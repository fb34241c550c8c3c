//! The messages of Nomad's plugin protocol, as far as a task driver needs them.

/// What go-plugin itself asks of every plugin.
#[allow(missing_docs, clippy::all, clippy::pedantic, unused_qualifications, reason = "generated code")]
pub mod plugin {
    tonic::include_proto!("plugin");
}
