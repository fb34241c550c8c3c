//! The configuration: file or job, flags and environment in, one checked value out.
//!
//! ```text
//! table of keys  ->  settings             ->  Config
//! what there is      what was given, where    what it means
//! ```

mod build;
mod checked;
mod document;
mod error;
mod file;
mod given;
mod keys;
mod nearest;
mod settings;
mod table;
mod unknown;
mod values;

pub use checked::{Config, Etcd, EtcdTls, Log, LogFormat, Probe, Route, Secret, Session, SslMode, Witnesses};
pub use document::document;
pub use error::{ConfigError, ConfigErrors};
pub use given::Given;
pub use keys::{Block, Key, Kind, Shape};
pub use settings::{FILE_VARIABLE, Origins, Raw, Setting, Settings, Source};
pub use table::{BLOCKS, KEYS};
