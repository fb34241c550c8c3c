//! The configuration: file or job, flags and environment in, one checked value out.
//!
//! ```text
//! table of keys  ->  settings             ->  Config
//! what there is      what was given, where    what it means
//! ```

mod build;
mod checked;
mod document;
mod elsewhere;
mod environment;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod given;
mod keys;
mod names;
mod nearest;
mod raw;
mod renamed;
mod require_auth;
mod settings;
mod source;
mod table;
mod unknown;
mod values;

pub use checked::{
    AdminAccess, Config, ControlSocket, Etcd, EtcdTls, LeaderSource, Log, LogFormat, PemFile, Probe, Route,
    Secret, Session, SslMode, SystemCa,
};
pub use document::document;
pub(crate) use elsewhere::{Answer, beside, word};
pub use elsewhere::{Program, replacements};
pub use environment::FILE_VARIABLE;
pub use error::{ConfigError, ConfigErrors};
pub use given::Given;
pub use keys::{Block, Change, Key, Kind, Shape};
pub use names::{Form, Name};
pub use raw::{Raw, Setting};
pub use renamed::Renamed;
pub use require_auth::{AuthMethod, RequireAuth};
pub use settings::{Origins, Settings};
pub use source::Source;
pub use table::{BLOCKS, KEYS};
pub use unknown::flag as explain_unknown_flag;
pub use values::duration;
pub(crate) use values::{listen as listen_address, server as server_address, show_duration};
