//! The three hosts of the benchmark, for clients, proxies and the server, each with its own network interfaces.
//!
//! For root each host is a network namespace, with a veth pair between each two of them. A packet then takes the same way
//! through the kernel as between machines, and the kernel's work of sending it is counted for the sending process. Without
//! root the three are addresses of loopback.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use lab::{Subnet, User, retry};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime;
use tokio::task::LocalSet;

/// For a namespace to exist.
const NAMESPACE: Duration = Duration::from_secs(5);
/// Tens of thousands of connections need more ports than the default, and must not wait a minute for each.
const SYSCTLS: [(&str, &str); 2] = [("ip_local_port_range", "10000 65535"), ("tcp_tw_reuse", "1")];

/// What connects the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Network namespaces with a veth pair between each two; needs root.
    Veth,
    /// Loopback.
    Loopback,
}

impl Network {
    /// veth for root, loopback for other users.
    #[must_use]
    pub fn best() -> Self {
        if rustix::process::geteuid().is_root() { Self::Veth } else { Self::Loopback }
    }

    /// Its name in the results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth between three network namespaces",
            Self::Loopback => "loopback",
        }
    }
}

/// The hosts. Dropping them removes the namespaces with their interfaces.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Of clients and load generators.
    pub(crate) client: Host,
    /// Of the setups' proxies.
    pub(crate) proxy: Host,
    /// Of PostgreSQL and the mock server.
    pub(crate) server: Host,
    /// Kept while the hosts are addresses of loopback.
    _subnet: Option<Subnet>,
}

/// A host, on which programs can be started and threads can run.
#[derive(Debug)]
pub(crate) struct Host {
    /// A process that keeps the namespace alive.
    holder: Option<Child>,
    /// Its address, as the host before it on the way from client to server reaches it.
    address: IpAddr,
    /// Its address, as a client reaches it without proxy.
    direct_address: IpAddr,
}

impl Hosts {
    /// Makes them.
    pub(crate) fn make(network: Network) -> Result<Self> {
        match network {
            Network::Veth => Self::veth(),
            Network::Loopback => Self::loopback(),
        }
    }

    fn loopback() -> Result<Self> {
        let subnet = Subnet::take()?;
        let host = |number| {
            let address = subnet.host(number);
            Host { holder: None, address, direct_address: address }
        };
        Ok(Self { client: host(11), proxy: host(12), server: host(13), _subnet: Some(subnet) })
    }

    fn veth() -> Result<Self> {
        let address = |link, end| Ipv4Addr::new(10, 77, link, end);
        let host = |address: Ipv4Addr, direct: Ipv4Addr| {
            let holder = Some(hold_namespace()?);
            anyhow::Ok(Host { holder, address: address.into(), direct_address: direct.into() })
        };
        let hosts = Self {
            client: host(address(1, 1), address(1, 1))?,
            proxy: host(address(1, 2), address(1, 2))?,
            server: host(address(2, 2), address(3, 2))?,
            _subnet: None,
        };
        let Self { client, proxy, server, .. } = &hosts;
        let links = [(client, proxy), (proxy, server), (client, server)];
        for (number, (one, other)) in (1_u8..).zip(links) {
            link(number, one, other)?;
        }
        for host in [client, proxy, server] {
            host.ip("link set lo up")?;
            for (name, value) in SYSCTLS {
                let file = format!("/proc/sys/net/ipv4/{name}");
                host.run(|| fs::write(&file, value).with_context(|| format!("writing {file}")))?;
            }
        }
        Ok(hosts)
    }

    /// Where clients reach a proxy that listens on `port`.
    pub(crate) fn proxy_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.proxy.address, port)
    }

    /// Where proxies reach a server that listens on `port`.
    pub(crate) fn server_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.address, port)
    }

    /// Where a server must listen, so that proxies and clients reach it: on all addresses of its host.
    pub(crate) fn listen_address(&self, port: u16) -> SocketAddr {
        match self.server.holder {
            Some(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            None => self.server_address(port),
        }
    }

    /// Where clients without proxy reach a server that listens on `port`.
    pub(crate) fn direct_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.direct_address, port)
    }
}

impl Host {
    /// A command that runs on this host as `user`. Its process id is the program's own, because nsenter replaces itself.
    pub(crate) fn command(&self, user: &User, program: &Path) -> Command {
        let Some(namespace) = self.namespace() else { return user.command(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={namespace}"));
        if let Some((uid, gid)) = user.ids() {
            command.arg(format!("--setuid={uid}")).arg(format!("--setgid={gid}"));
        }
        command.arg("--").arg(program);
        command
    }

    /// Runs work on this host, in a thread of its own. Sockets that are made there belong to the host from then on.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                self.enter()?;
                work()
            });
            working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a future on this host, in a runtime and a thread of its own.
    pub(crate) fn block_on<T: Send, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        self.run(|| {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
            LocalSet::new().block_on(&runtime, work())
        })
    }

    /// Moves the calling thread to this host.
    fn enter(&self) -> Result<()> {
        let Some(namespace) = self.namespace() else { return Ok(()) };
        let file = File::open(&namespace).with_context(|| format!("opening {namespace}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering {namespace}"))
    }

    fn namespace(&self) -> Option<String> {
        self.holder.as_ref().map(|holder| namespace_of(&holder.id().to_string()))
    }

    fn ip(&self, arguments: &str) -> Result<()> {
        let namespace = self.namespace().context("loopback needs no configuration")?;
        run(Command::new("nsenter").arg(format!("--net={namespace}")).arg("ip").args(arguments.split(' ')))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn namespace_of(process: &str) -> String {
    format!("/proc/{process}/ns/net")
}

/// A process that sleeps in a network namespace of its own, and ends with this process.
fn hold_namespace() -> Result<Child> {
    let mut holder = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting unshare with setpriv (apt-get install util-linux)")?;
    let ours = fs::read_link(namespace_of("self")).context("reading this process's network namespace")?;
    let process = holder.id().to_string();
    let entered = retry("a network namespace", NAMESPACE, || {
        ensure!(fs::read_link(namespace_of(&process))? != ours, "unshare has not made it yet");
        Ok(())
    });
    if let Some(status) = holder.try_wait().context("waiting for unshare")? {
        bail!("no network namespace: unshare ended ({status}); without root use --network loopback");
    }
    if let Err(error) = entered {
        let _ = holder.kill();
        let _ = holder.wait();
        return Err(error);
    }
    Ok(holder)
}

/// Makes link `number` between two hosts. The first has address 1 on it, the second address 2.
fn link(number: u8, one: &Host, other: &Host) -> Result<()> {
    let pid = |host: &Host| host.holder.as_ref().map(Child::id).context("a host without a namespace");
    let name = format!("veth{number}");
    let arguments =
        format!("link add {name} netns {} type veth peer name {name} netns {}", pid(one)?, pid(other)?);
    run(Command::new("ip").args(arguments.split(' ')))?;
    for (end, host) in (1_u8..).zip([one, other]) {
        host.ip(&format!("address add 10.77.{number}.{end}/30 dev {name}"))?;
        host.ip(&format!("link set {name} up"))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, errors.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connect_proxy_to_server(hosts: &Hosts) {
        let listener = hosts.server.run(|| Ok(TcpListener::bind(hosts.server_address(5432))?)).unwrap();
        let mut client = hosts.proxy.run(|| Ok(TcpStream::connect(hosts.server_address(5432))?)).unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn the_proxys_host_reaches_the_servers() {
        connect_proxy_to_server(&Hosts::make(Network::Loopback).unwrap());
        if Network::best() == Network::Veth {
            let hosts = Hosts::make(Network::Veth).unwrap();
            connect_proxy_to_server(&hosts);
            let elsewhere = hosts.client.run(|| Ok(TcpStream::connect(hosts.server_address(5432))?));
            assert!(elsewhere.is_err(), "clients do not reach the server's address on the proxy's link");
        }
    }
}
