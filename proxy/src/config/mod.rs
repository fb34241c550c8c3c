//! The configuration: file, flags and environment in, one checked value out.

mod checked;

pub use checked::{Config, Etcd, EtcdTls, Log, LogFormat, Probe, Route, Secret, Session, SslMode, Witnesses};
