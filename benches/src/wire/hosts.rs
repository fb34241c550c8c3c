//! The three hosts of the benchmark: clients, proxies and the server, each with network interfaces of its own.
//!
//! As root each is a network namespace, with a veth pair between each two of them: a packet then takes the way through
//! the kernel that it takes between machines, and what a contender spends on sending it is charged to the contender.
//! Without root all three are addresses of loopback.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use lab::{Subnet, User};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace to be there after it was asked for.
const MADE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);
/// Connections by the ten thousand need more ports than are usual, and not to wait a minute for each.
const SYSCTLS: [(&str, &str); 2] = [("ip_local_port_range", "10000 65535"), ("tcp_tw_reuse", "1")];

/// What lies between the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Network namespaces with a veth pair between each two; needs root.
    Veth,
    /// Loopback, for want of root.
    Loopback,
}

impl Network {
    /// The best that this user can have.
    #[must_use]
    pub fn best() -> Self {
        if rustix::process::geteuid().is_root() { Self::Veth } else { Self::Loopback }
    }

    /// Its name in the results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth between three network namespaces",
            Self::Loopback => "loopback",
        }
    }
}

/// The hosts. Dropping them takes the namespaces and everything between them away.
#[derive(Debug)]
pub struct Hosts {
    /// Where clients and load generators are.
    pub client: Host,
    /// Where the contenders are.
    pub proxy: Host,
    /// Where PostgreSQL and the stand-in are.
    pub server: Host,
    /// Held for as long as loopback is used.
    _subnet: Option<Subnet>,
}

/// A host: programs can be started on it, and a thread can work on it.
#[derive(Debug)]
pub struct Host {
    /// Lives as long as the namespace is wanted; nothing else keeps it.
    holder: Option<Child>,
    /// Its address as the next host on the way to the server sees it, clients first.
    seen_before: IpAddr,
    /// Its address as a client sees it.
    seen_by_client: IpAddr,
}

impl Hosts {
    /// Makes them.
    ///
    /// # Errors
    /// When the kernel or `ip` refuses, which is how they say that this needs root.
    pub fn make(network: Network) -> Result<Self> {
        match network {
            Network::Veth => Self::veth(),
            Network::Loopback => Self::loopback(),
        }
    }

    fn loopback() -> Result<Self> {
        let subnet = Subnet::take()?;
        let host = |number| {
            let address = subnet.host(number);
            Host { holder: None, seen_before: address, seen_by_client: address }
        };
        Ok(Self { client: host(11), proxy: host(12), server: host(13), _subnet: Some(subnet) })
    }

    fn veth() -> Result<Self> {
        let address = |link, end| Ipv4Addr::new(10, 77, link, end);
        let host = |before: Ipv4Addr, client: Ipv4Addr| {
            let holder = Some(hold_namespace()?);
            anyhow::Ok(Host { holder, seen_before: before.into(), seen_by_client: client.into() })
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
                host.within(|| fs::write(&file, value).with_context(|| format!("writing {file}")))?;
            }
        }
        Ok(hosts)
    }

    /// Where a contender that listens on `port` is for clients.
    #[must_use]
    pub fn proxy_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.proxy.seen_before, port)
    }

    /// Where a server that listens on `port` is for contenders.
    #[must_use]
    pub fn server_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.seen_before, port)
    }

    /// Where a server listens on `port` that contenders and clients reach: all its addresses, unless the machine is shared.
    #[must_use]
    pub fn listen_address(&self, port: u16) -> SocketAddr {
        match self.server.holder {
            Some(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            None => self.server_address(port),
        }
    }

    /// Where a server that listens on `port` is for clients that use no proxy.
    #[must_use]
    pub fn direct_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.seen_by_client, port)
    }
}

impl Host {
    /// A command that runs on this host as `user`. Its process id is the program's own, because nsenter replaces itself.
    #[must_use]
    pub fn command(&self, user: &User, program: &Path) -> Command {
        let Some(namespace) = self.namespace() else { return user.command(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={namespace}"));
        if let Some((uid, gid)) = user.ids() {
            command.arg(format!("--setuid={uid}")).arg(format!("--setgid={gid}"));
        }
        command.arg("--").arg(program);
        command
    }

    /// Works on this host, in a thread of its own. Sockets that are made there belong to the host wherever they go.
    ///
    /// # Errors
    /// When the host cannot be entered, or what the work says.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                self.enter()?;
                work()
            });
            working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread to this host.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        let Some(namespace) = self.namespace() else { return Ok(()) };
        let file = File::open(&namespace).with_context(|| format!("opening {namespace}"))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .with_context(|| format!("entering {namespace}"))
    }

    fn namespace(&self) -> Option<String> {
        self.holder.as_ref().map(|holder| namespace_of(&holder.id().to_string()))
    }

    fn ip(&self, words: &str) -> Result<()> {
        let namespace = self.namespace().context("loopback is not for us to configure")?;
        run(Command::new("nsenter").arg(format!("--net={namespace}")).arg("ip").args(words.split(' ')))
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

/// A process that sleeps in a network namespace of its own, and ends with this one.
fn hold_namespace() -> Result<Child> {
    let mut holder = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--", "sleep", "infinity"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("starting unshare through setpriv (apt-get install util-linux)")?;
    let ours = fs::read_link(namespace_of("self")).context("asking for the own network namespace")?;
    let deadline = Instant::now() + MADE;
    let process = holder.id().to_string();
    while !fs::read_link(namespace_of(&process)).is_ok_and(|theirs| theirs != ours) {
        if let Some(status) = holder.try_wait().context("asking for unshare")? {
            bail!("no network namespace: unshare ended ({status}); as a user use --network loopback");
        }
        if Instant::now() > deadline {
            let _ = holder.kill();
            let _ = holder.wait();
            bail!("no network namespace after {MADE:?}");
        }
        std::thread::sleep(LOOK);
    }
    Ok(holder)
}

/// Makes link `number` between two hosts, the first at address 1 and the second at address 2.
fn link(number: u8, one: &Host, other: &Host) -> Result<()> {
    let pid = |host: &Host| host.holder.as_ref().map(Child::id).context("a host without a namespace");
    let name = format!("veth{number}");
    let words =
        format!("link add {name} netns {} type veth peer name {name} netns {}", pid(one)?, pid(other)?);
    run(Command::new("ip").args(words.split(' ')))?;
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
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, words.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn speak(hosts: &Hosts) {
        let listener = hosts.server.within(|| Ok(TcpListener::bind(hosts.server_address(5432))?)).unwrap();
        let mut client = hosts.proxy.within(|| Ok(TcpStream::connect(hosts.server_address(5432))?)).unwrap();
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn the_proxys_host_reaches_the_servers() {
        speak(&Hosts::make(Network::Loopback).unwrap());
        if Network::best() == Network::Veth {
            let hosts = Hosts::make(Network::Veth).unwrap();
            speak(&hosts);
            let elsewhere = hosts.client.within(|| Ok(TcpStream::connect(hosts.server_address(5432))?));
            assert!(elsewhere.is_err(), "clients have no way to the server's address on the proxy's link");
        }
    }
}
