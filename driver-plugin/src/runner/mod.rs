//! The proxy process: it sets itself up as its supervisor says, and then is the proxy.
//!
//! Standard input is the connection to the supervisor. The first message says what to become. Then the process asks
//! for its listening sockets and runs the proxy. When the connection breaks the supervisor is gone, and the process
//! exits.

mod bridge;
mod setup;
mod task_files;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use pg_leader_proxy::app::{self, Reload, SupervisorLink};
use pg_leader_proxy::cli::Exit;
use pg_leader_proxy::config::{Config, ConfigError, ConfigErrors, FILE_VARIABLE, Given, Origins};
use pg_leader_proxy::logging::{self, LogFlush, Logging};
use rustix::stdio::dup2_stdin;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

use self::bridge::{Bridge, Ended};
use crate::channel::Channel;
use crate::roles::close_inherited_descriptors;
use crate::supervisor::protocol::{ProxyCommand, ProxyReport};
use crate::supervisor::{LaunchSpec, StartError, deadlines};
use crate::user::Account;

/// How many events may wait until the supervisor reads them.
const EVENTS_MAX: usize = 16;
/// How many commands may wait until the proxy reads them.
const COMMANDS_MAX: usize = 16;

/// The role `proxy`. It logs to standard error, as the proxy does.
#[must_use]
pub fn main() -> ExitCode {
    let exit = run().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "pg-leader-proxy: {error:#}");
        Exit::Failure
    });
    ExitCode::from(exit.code())
}

fn run() -> Result<Exit> {
    close_inherited_descriptors().context("cannot close inherited descriptors")?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut channel = runtime
        .block_on(async { connection() })
        .context("standard input is not a connection to a supervisor, which starts this role")?;
    match runtime.block_on(prepare(&mut channel))? {
        Ok(prepared) => run_proxy(runtime, channel, prepared),
        Err(error) => {
            let exit = match error {
                StartError::Configuration(_) => Exit::Configuration,
                StartError::Transient(_) | StartError::Occupied(_) | StartError::Fatal(_) => Exit::Failure,
            };
            runtime.block_on(channel.send(&ProxyReport::Failed(error)))?;
            Ok(exit)
        }
    }
}

/// Takes the connection from standard input, which is `/dev/null` afterwards.
fn connection() -> io::Result<Channel> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let channel = Channel::new(UnixStream::from_std(stream)?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

/// What the proxy needs to run.
struct Prepared {
    origins: Origins,
    config: Config,
    logging: Logging,
    log_flush: LogFlush,
    listeners: Vec<TcpListener>,
}

/// Sets the process up and obtains everything whose lack can fail a start. The outer error is one of the connection;
/// the inner one is reported to the supervisor.
async fn prepare(channel: &mut Channel) -> Result<Result<Prepared, StartError>> {
    let first = channel.expect(deadlines::PROXY_SETUP).await.context("no message from a supervisor")?;
    let ProxyCommand::Run(mut launch) = first else { bail!("the supervisor's first message is not `Run`") };
    let temporary = logging::temporary();
    if let Err(error) = setup::set_up(&launch) {
        tracing::error!("{error}");
        return Ok(Err(error));
    }
    task_files::make_relative(&mut launch);
    let LaunchSpec { settings, environment, account, .. } = *launch;
    let origins = origins(settings, environment);
    let config = match Config::load_in_time(&origins) {
        Ok(Ok(config)) => config,
        Err(hangs) => return Ok(Err(StartError::Transient(hangs.to_string()))),
        Ok(Err(errors)) => return Ok(Err(configuration_error(&errors, &origins, account.as_ref()))),
    };
    drop(temporary);
    let (logging, log_flush) = logging::start(&config).context("cannot start logging")?;
    let listeners = listeners(channel, &config).await?;
    Ok(Ok(Prepared { origins, config, logging, log_flush, listeners }))
}

/// Where settings come from: the job's `config` block, and the task's environment, which is not that of this process:
/// others can read that one, and it would act on the process while it is root.
fn origins(given: Vec<Given>, environment: BTreeMap<String, String>) -> Origins {
    let file = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    Origins { file, given, environment, ..Origins::default() }
}

fn configuration_error(errors: &ConfigErrors, origins: &Origins, account: Option<&Account>) -> StartError {
    let explained = errors.iter().map(|error| match denied(error, origins, account) {
        Some(reason) => format!("{error}; {reason}"),
        None => error.to_string(),
    });
    let texts: Vec<String> = explained.collect();
    for text in &texts {
        tracing::error!("configuration: {text}");
    }
    StartError::Configuration(texts)
}

/// Why the task's user may not read the file that an error is about.
fn denied(error: &ConfigError, origins: &Origins, account: Option<&Account>) -> Option<String> {
    let named = error.value.as_deref().filter(|_| task_files::is_file(&error.subject)).map(Path::new);
    let whole = origins.file.as_deref().filter(|file| error.subject == file.display().to_string());
    task_files::explain_denied(named.or(whole)?, account)
}

/// Receives the listening sockets, of which the supervisor keeps duplicates. A port that the kernel chooses cannot be
/// kept.
async fn listeners(channel: &mut Channel, config: &Config) -> Result<Vec<TcpListener>> {
    let mut addresses = app::addresses(config);
    addresses.retain(|addr| addr.port() != 0);
    channel.send(&ProxyReport::Listen(addresses)).await?;
    let mut listeners = Vec::new();
    loop {
        match channel.expect(deadlines::PROXY_SETUP).await.context("no sockets from the supervisor")? {
            ProxyCommand::Sockets(addresses) if addresses.is_empty() => return Ok(listeners),
            ProxyCommand::Sockets(addresses) => {
                let descriptors = channel.take_descriptors(addresses.len())?;
                listeners.extend(descriptors.into_iter().map(TcpListener::from));
            }
            ProxyCommand::Run(_) | ProxyCommand::Drain(_) | ProxyCommand::Reload => {}
        }
    }
}

/// Runs the proxy until it is told to stop. The connection is served by a thread of its own, so that the end of the
/// supervisor is noticed whatever the proxy does.
fn run_proxy(runtime: Runtime, channel: Channel, prepared: Prepared) -> Result<Exit> {
    let Prepared { origins, config, logging, log_flush: _log_flush, listeners } = prepared;
    let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
    let (events, events_in) = mpsc::channel(EVENTS_MAX);
    let (ready, ready_in) = oneshot::channel();
    let (ended, ended_in) = oneshot::channel();
    let bridge = Bridge { channel, commands, events: events_in };
    let thread = std::thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || runtime.block_on(bridge.run(ready_in, ended_in)))
        .context("cannot start a thread")?;
    let link = SupervisorLink {
        listeners,
        commands: Some(commands_in),
        events: Some(events),
        ready: Some(ready),
        ..SupervisorLink::default()
    };
    let ran = app::run(config, Reload::from_origins(origins, logging), link);
    let problem = ran.err().map(|error| format!("{error:#}"));
    // Through the log, whose queue nobody waits for: standard error may be a pipe that nobody reads.
    problem.iter().for_each(|problem| tracing::error!("stopped: {problem}"));
    let exit = if problem.is_none() { Exit::Success } else { Exit::Failure };
    // Both fail only if the thread has panicked, and with it the connection is gone.
    let _ = ended.send(Ended { problem });
    let _ = thread.join();
    Ok(exit)
}
