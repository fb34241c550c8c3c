//! From settings to the checked configuration: every value is read and every contradiction named in one pass.

mod contradictions;
mod leader_source;
mod reader;
mod routes;
mod tls;

use std::num::NonZero;
use std::time::Duration;

use pg_leader_proxy_core::{AgeLimit, OnDcsLoss, Policy, PolicyOptions, ReadFallback, Sources};
use tracing_subscriber::EnvFilter;

use super::checked::{Config, LeaderSource, Log, LogFormat, Probe, Session, SslMode, SystemCa};
use super::error::{ConfigError, ConfigErrors};
use super::require_auth::RequireAuth;
use super::settings::{Origins, Settings};
use super::values::show_duration;
use crate::files::FileHangs;
use reader::{Invalid, Reader};

/// How much longer than one answer may take sessions are kept after a step of the clock until something is confirmed.
const CONFIRMATION: Duration = Duration::from_secs(1);

impl Config {
    /// Reads the configuration from all its origins.
    ///
    /// # Errors
    /// Every error in it, at once.
    pub fn load(origins: &Origins) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let settings = Settings::gather(origins, &mut errors);
        Self::of_settings(&settings, origins, errors)
    }

    /// The configuration that these settings make, beside which `errors` were found.
    pub(super) fn of_settings(
        settings: &Settings,
        origins: &Origins,
        errors: Vec<ConfigError>,
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(settings, origins, errors);
        let config = config(&mut reader);
        if let Ok(config) = &config {
            contradictions::name(&mut reader, config);
        }
        ConfigErrors::unless_any(reader.into_errors(), config.ok())
    }

    /// The same for a caller that may not wait for a file system that hangs.
    ///
    /// # Errors
    /// The outer error is that a file is not read in time, the inner ones are those of [`load`](Self::load).
    pub fn load_in_time(origins: &Origins) -> Result<Result<Self, ConfigErrors>, FileHangs> {
        let read = origins.clone();
        origins.files.in_time(move || Self::load(&read))
    }
}

fn config(reader: &mut Reader<'_>) -> Result<Config, Invalid> {
    let leader_source = leader_source::leader_source(reader);
    let probe = probe(reader);
    let policy = policy(reader, leader_source.as_ref().ok().map(|(_, of)| of), probe.as_ref().ok());
    let write = routes::write(reader);
    let read = routes::read(reader);
    let session = session(reader);
    let admin = routes::admin(reader);
    let admin_access = routes::admin_access(reader);
    let control = routes::control(reader);
    let log = log(reader);
    let ((cluster, mut leader_source), policy) = (leader_source?, policy?);
    if let LeaderSource::Etcd(etcd) = &mut leader_source {
        etcd.lease_margin = policy.options().lease_margin;
    }
    Ok(Config {
        cluster,
        leader_source,
        probe: probe?,
        policy,
        write: write?,
        read: read?,
        session: session?,
        admin: admin?,
        admin_access: admin_access?,
        control: control?,
        log: log?,
        renamed: reader.renamed(),
    })
}

fn probe(reader: &mut Reader<'_>) -> Result<Probe, Invalid> {
    let user = reader.text("probe.user");
    let password = reader.password("probe");
    let database = reader.text("probe.database");
    let interval = reader.duration("probe.interval");
    let fast_interval = reader.duration("probe.fast_interval");
    let connect_interval = reader.duration("probe.connect_interval");
    let timeout = reader.duration("probe.timeout");
    let sslmode = reader.choice(
        "probe.sslmode",
        &[
            ("disable", SslMode::Disable),
            ("allow", SslMode::Allow),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ],
    );
    let ca_file = tls::authorities(reader, "probe.ca_file");
    let system_ca = match (&sslmode, &ca_file) {
        (Ok(SslMode::VerifyFull), Ok(None)) => SystemCa::read(reader.files()),
        _ => SystemCa::default(),
    };
    let identity = tls::identity(reader, "probe");
    let require_auth = reader.optional("probe.require_auth", RequireAuth::parse);
    Ok(Probe {
        user: user?,
        password: password?,
        database: database?,
        interval: interval?,
        fast_interval: fast_interval?,
        connect_interval: connect_interval?,
        timeout: timeout?,
        sslmode: sslmode?,
        ca_file: ca_file?,
        system_ca,
        identity: identity?,
        require_auth: require_auth?.unwrap_or_default(),
    })
}

fn policy(
    reader: &mut Reader<'_>,
    leader_source: Option<&LeaderSource>,
    probe: Option<&Probe>,
) -> Result<Policy, Invalid> {
    let on_dcs_loss = reader.choice(
        "policy.on_dcs_loss",
        &[("auto", OnDcsLoss::Auto), ("all_members", OnDcsLoss::AllMembers), ("fence", OnDcsLoss::Fence)],
    );
    let lease_margin = reader.duration("policy.lease_margin");
    let max_probe_age = reader.duration("policy.max_probe_age");
    let max_member_probe_age = reader.duration("policy.max_member_probe_age");
    let max_lag_bytes = reader.size("read.max_lag");
    let read_fallback =
        reader.choice("read.fallback", &[("hold", ReadFallback::Hold), ("leader", ReadFallback::Leader)]);
    let probe = probe.ok_or(Invalid)?;
    let (sources, answer) = match leader_source.ok_or(Invalid)? {
        LeaderSource::Etcd(etcd) => (Sources::DcsAndServers, etcd.timeout),
        LeaderSource::Members(_) => (Sources::ServersOnly, probe.timeout),
    };
    let options = PolicyOptions {
        sources,
        lease_margin: lease_margin?,
        max_probe_age: max_probe_age?,
        max_member_probe_age: max_member_probe_age?,
        max_suspension: answer + CONFIRMATION,
        probe_interval: probe.interval,
        on_dcs_loss: on_dcs_loss?,
        max_lag_bytes: max_lag_bytes?,
        read_fallback: read_fallback?,
    };
    Policy::new(options).map_err(|error| {
        let key = match error.limit {
            AgeLimit::Leader => "policy.max_probe_age",
            AgeLimit::AnyMember => "policy.max_member_probe_age",
        };
        let (is, least) = (show_duration(error.is), show_duration(error.least));
        let problem = format!(
            "{is} is shorter than two probe intervals ({least}); make it longer, or `probe.interval` shorter"
        );
        reader.fault(key, problem)
    })
}

fn session(reader: &mut Reader<'_>) -> Result<Session, Invalid> {
    let max_sessions = reader.count("session.max_sessions");
    let max_sessions_per_address = reader.optional_number("session.max_sessions_per_address");
    let max_connections = reader.optional_number("session.max_connections_per_minute_per_address");
    let startup_timeout = reader.duration("session.startup_timeout");
    let connect_timeout = reader.duration("session.connect_timeout");
    let keepalive = reader.duration("session.keepalive");
    let user_timeout = reader.duration("session.user_timeout");
    let drain_timeout = reader.duration("session.drain_timeout");
    let workers = reader.count("session.workers");
    let so_reuseport = reader.boolean("session.so_reuseport");
    Ok(Session {
        max_sessions: max_sessions?,
        max_sessions_per_address: max_sessions_per_address?,
        max_connections_per_minute_per_address: max_connections?,
        startup_timeout: startup_timeout?,
        connect_timeout: connect_timeout?,
        keepalive: keepalive?,
        user_timeout: user_timeout?,
        drain_timeout: drain_timeout?,
        workers: match workers? {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        },
        so_reuseport: so_reuseport?,
    })
}

fn log(reader: &mut Reader<'_>) -> Result<Log, Invalid> {
    let format = reader.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let filter = reader.text("log.filter").and_then(|filter| match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(error) => Err(reader.fault("log.filter", format!("{error}; a level such as \"info\" will do"))),
    });
    let sessions = reader.boolean("log.sessions");
    Ok(Log { format: format?, filter: filter?, sessions: sessions? })
}
