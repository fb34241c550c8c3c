//! The relay: the proxy, in a process of its own, of the task's cgroup and user.
//!
//! Its standard input is the conversation with its supervisor. It is told what to become, becomes it, asks for its
//! listening sockets, and is the proxy from then on. When the conversation ends the supervisor is gone, and the relay
//! ends too.

mod attend;
mod settle;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use pg_leader_proxy::app::{self, Reload, SupervisorLink};
use pg_leader_proxy::cli::Exit;
use pg_leader_proxy::config::{Config, ConfigErrors, FILE_VARIABLE, Given, Origins};
use pg_leader_proxy::logging::{self, Logging};
use rustix::stdio::dup2_stdin;
use tokio::net::UnixStream;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

use self::attend::{Attendant, Ending};
use crate::supervisor::channel::Channel;
use crate::supervisor::protocol::{Order, Report, Settlement};
use crate::supervisor::{StartError, close_inherited};

/// The argument that makes this program a relay.
pub const ROLE: &str = "relay";
/// How long the supervisor may take to say what to become, and then to find all sockets.
const SUPERVISOR_TIME: Duration = Duration::from_secs(20);
/// How many news may wait to be sent.
const NEWS: usize = 16;
/// How many orders may wait to be obeyed.
const ORDERS: usize = 16;

/// The whole life of a relay. It logs to standard error, as the proxy does.
pub fn main() -> ExitCode {
    let exit = run().unwrap_or_else(|error| {
        // Where complaints cannot be written, nobody reads them.
        let _ = writeln!(io::stderr(), "pg-leader-proxy: {error:#}");
        Exit::Failure
    });
    ExitCode::from(exit.code())
}

fn run() -> Result<Exit> {
    close_inherited().context("cannot close what was inherited")?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let mut channel = runtime
        .block_on(async { conversation() })
        .context("standard input is not a supervisor, which alone can start a relay")?;
    match runtime.block_on(prepare(&mut channel))? {
        Ok(prepared) => relay(runtime, channel, prepared),
        Err(error) => {
            let exit = match error {
                StartError::Configuration(_) => Exit::Configuration,
                StartError::Transient(_) | StartError::Fatal(_) => Exit::Failure,
            };
            runtime.block_on(channel.send(&Report::NotStarted(error)))?;
            Ok(exit)
        }
    }
}

/// The conversation with the supervisor, taken from standard input, which is empty from then on.
fn conversation() -> io::Result<Channel> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    let channel = Channel::new(UnixStream::from_std(stream)?);
    dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

/// What a relay needs to be the proxy.
struct Prepared {
    origins: Origins,
    config: Config,
    logging: Logging,
    listeners: Vec<TcpListener>,
}

/// Becomes what it is told to, and gets everything that can be wanting. The outer error ends the conversation, the inner
/// one is for the supervisor.
async fn prepare(channel: &mut Channel) -> Result<Result<Prepared, StartError>> {
    let Order::Settle(settlement) = channel
        .expect(SUPERVISOR_TIME)
        .await
        .context("no word from a supervisor, which alone can start a relay")?
    else {
        bail!("the supervisor does not begin at the beginning");
    };
    let temporary = logging::temporary();
    if let Err(error) = settle::settle(&settlement) {
        tracing::error!("{error}");
        return Ok(Err(error));
    }
    let Settlement { settings, .. } = *settlement;
    let origins = origins(settings);
    let config = match Config::load(&origins) {
        Ok(config) => config,
        Err(errors) => return Ok(Err(refusal(&errors))),
    };
    drop(temporary);
    let logging = logging::start(&config.log).context("logging cannot be started")?;
    let listeners = listeners(channel, &config).await?;
    Ok(Ok(Prepared { origins, config, logging, listeners }))
}

/// Everything that settings come from here: the job, and the environment that it made.
fn origins(given: Vec<Given>) -> Origins {
    let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment: BTreeMap<String, String> = std::env::vars_os().filter_map(unicode).collect();
    let file = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    Origins { file, given, environment, ..Origins::default() }
}

fn refusal(errors: &ConfigErrors) -> StartError {
    for error in errors.iter() {
        tracing::error!("configuration: {error}");
    }
    StartError::Configuration(errors.iter().map(ToString::to_string).collect())
}

/// The listening sockets, which the supervisor keeps as well. A port that the kernel is to choose cannot be kept.
async fn listeners(channel: &mut Channel, config: &Config) -> Result<Vec<TcpListener>> {
    let mut addresses = app::addresses(config);
    addresses.retain(|addr| addr.port() != 0);
    channel.send(&Report::Wants(addresses)).await?;
    let mut listeners = Vec::new();
    loop {
        match channel.expect(SUPERVISOR_TIME).await.context("no sockets from the supervisor")? {
            Order::Sockets(of) if of.is_empty() => return Ok(listeners),
            Order::Sockets(of) => {
                listeners.extend(channel.take_descriptors(of.len())?.into_iter().map(TcpListener::from));
            }
            Order::Settle(_) | Order::Drain(_) | Order::Reload => {}
        }
    }
}

/// Is the proxy, until it is told to stop. The conversation goes on in a thread of its own, so that an end of the
/// supervisor is noticed whatever the proxy does.
fn relay(runtime: Runtime, channel: Channel, prepared: Prepared) -> Result<Exit> {
    let Prepared { origins, config, logging, listeners } = prepared;
    let (orders, orders_in) = mpsc::channel(ORDERS);
    let (news, news_in) = mpsc::channel(NEWS);
    let (up, up_in) = oneshot::channel();
    let (ending, ending_in) = oneshot::channel();
    let attendant = Attendant { channel, orders, news: news_in };
    let attending = std::thread::Builder::new()
        .name("supervised".to_owned())
        .spawn(move || runtime.block_on(attendant.attend(up_in, ending_in)))
        .context("cannot start a thread")?;
    let ties = SupervisorLink { listeners, commands: Some(orders_in), events: Some(news), ready: Some(up) };
    let ran = app::run(config, Reload::from_origins(origins, logging), ties);
    let problem = ran.as_ref().err().map(|error| format!("{error:#}"));
    // A thread that has panicked took the supervisor's hold with it, and there is nobody to tell.
    let _ = ending.send(Ending { problem });
    let _ = attending.join();
    ran.map(|()| Exit::Fine)
}
