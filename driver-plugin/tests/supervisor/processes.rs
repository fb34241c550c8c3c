//! Supervisor and proxy process as the operating system shows them: descriptors, user, environment, session, cgroups.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nomad_driver_pg_leader_proxy::process_id::ProcessId;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_driver_pg_leader_proxy::user::Account;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::cgroups::TaskCgroups;
use crate::fixture::{Fixture, descriptors, listening, set, soon, status, until};

#[tokio::test]
async fn no_descriptor_of_the_plugin_is_inherited() {
    let fixture = Fixture::new();
    let leaked = File::create(fixture.path("leaked")).unwrap();
    // As if the agent had leaked it.
    fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
    let supervisor = fixture.start(fixture.launch("1")).await;
    let kept = listening(&supervisor.record().supervisor, fixture.address);
    let log = fs::canonicalize(fixture.path("log")).unwrap();
    // The supervisor keeps the log open, for a proxy process that it starts again. The proxy reads files as it starts.
    let legitimate = |target: &String| {
        let inherent = target.starts_with("socket:[") || target.starts_with("anon_inode:");
        inherent || target == "/dev/null" || *target == log.to_string_lossy()
    };
    for process in [&supervisor.record().supervisor, &supervisor.record().proxy] {
        assert_eq!(descriptors(process)[&0], "/dev/null");
        until("nothing else is open", || descriptors(process).values().all(legitimate)).await;
    }
    let plugin: Vec<String> = descriptors(&ProcessId::of_this_process().unwrap()).into_values().collect();
    let supervised = descriptors(&supervisor.record().supervisor);
    let shared: Vec<&String> = supervised
        .values()
        .filter(|target| target.starts_with("socket:[") && plugin.contains(target))
        .collect();
    assert!(shared.is_empty(), "{shared:?}");
    assert_eq!([&supervised[&1], &supervised[&2]], ["/dev/null", "/dev/null"]);
    assert_eq!(kept.len(), 1);
    assert_eq!(descriptors(&supervisor.record().proxy)[&2], log.to_string_lossy());
    assert!(leaked.as_raw_fd() > 2);
}

#[tokio::test]
async fn the_log_collector_sees_the_end_while_the_supervisor_runs() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    let fifos = ["stdout", "stderr"].map(|name| fixture.path(name));
    let texts: [Arc<Mutex<String>>; 2] = Default::default();
    let mut readers = Vec::new();
    for (fifo, text) in fifos.iter().zip(&texts) {
        mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (fifo, text) = (fifo.clone(), Arc::clone(text));
        readers.push(std::thread::spawn(move || {
            for line in BufReader::new(File::open(fifo).unwrap()).lines() {
                text.lock().unwrap().push_str(&line.unwrap());
            }
        }));
    }
    [launch.stdout, launch.stderr] = fifos;
    let supervisor = fixture.start(launch).await;
    // A process that is killed takes the lines with it that it has not written yet.
    until("the log tells of the start", || texts[1].lock().unwrap().contains("listening")).await;
    supervisor.signal(Signal::KILL).await.unwrap();
    until("both readers see the end", || readers.iter().all(std::thread::JoinHandle::is_finished)).await;
    assert!(supervisor.record().supervisor.alive());
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(*texts[0].lock().unwrap(), "");
}

#[tokio::test]
async fn the_proxy_survives_the_death_of_the_log_collector() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    launch.stderr = fixture.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = rustix::fs::open(&launch.stderr, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let supervisor = fixture.start(launch).await;
    drop(reader);
    for _ in 0..5 {
        // Each of them logs a line.
        supervisor.signal(Signal::HUP).await.unwrap();
        assert_eq!(fixture.connect().await.unwrap().answer().await, Some('E'));
    }
    assert!(supervisor.record().proxy.alive());
    let exit = supervisor.stop(std::time::Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
}

#[tokio::test]
async fn the_proxy_process_is_what_its_specification_says() {
    let fixture = Fixture::new();
    let port = 400 + fixture.address.port() % 600;
    let address = std::net::SocketAddr::new(fixture.address.ip(), port);
    let mut launch = fixture.launch("1");
    set(&mut launch, "write.listen", &address.to_string());
    launch.account = Some(Account::find("nomad-80123").unwrap());
    launch.oom_score_adj = 123;
    launch.environment.insert("NOMAD_TASK_NAME".to_owned(), "proxy".to_owned());
    launch.environment.insert("RES_OPTIONS".to_owned(), "timeout:1".to_owned());
    let supervisor = fixture.start(launch).await;
    let (proxy, above) = (&supervisor.record().proxy, &supervisor.record().supervisor);

    for ids in ["Uid", "Gid"] {
        assert_eq!(status(proxy, ids), "80123 80123 80123 80123", "{ids}");
        assert_eq!(status(above, ids), "0 0 0 0", "{ids}");
    }
    assert_eq!(status(proxy, "Groups"), "80123");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(proxy, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(proxy, "NoNewPrivs"), "1");
    assert_eq!((status(proxy, "Umask"), status(above, "Umask")), ("0022".to_owned(), "0077".to_owned()));
    assert_eq!((status(proxy, "SigBlk"), status(above, "SigBlk")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!(
        (status(proxy, "Name"), status(above, "Name")),
        ("pg-leader-proxy".into(), "pglp-supervisor".into())
    );
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", proxy.pid)).unwrap(), "123\n");
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", above.pid)).unwrap(), own);

    let for_libraries = BTreeMap::from([("RES_OPTIONS".to_owned(), "timeout:1".to_owned())]);
    assert_eq!(environment(proxy), for_libraries, "the rest is not for others to read");
    assert_eq!(environment(above), BTreeMap::new(), "the agent's environment is not inherited");
    let directory = fs::read_link(format!("/proc/{}/cwd", proxy.pid)).unwrap();
    assert_eq!(directory, fs::canonicalize(fixture.path(".")).unwrap());
    assert_eq!(status(above, "NSsid"), above.pid.to_string(), "its own session");
    let mode = |path: PathBuf| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o777;
    let directory = &supervisor.record().directory;
    assert_eq!((mode(directory.clone()), mode(directory.join("control.sock"))), (0o700, 0o600));
    assert!(std::net::TcpStream::connect(address).is_ok(), "a port that only root can bind");
}

#[tokio::test]
async fn a_named_user_has_its_groups() {
    let fixture = Fixture::new();
    let mut launch = fixture.launch("1");
    let daemon = Account::find("daemon").unwrap();
    launch.account = Some(daemon.clone());
    let supervisor = fixture.start(launch).await;
    let proxy = &supervisor.record().proxy;
    let four = |id: u32| vec![id.to_string(); 4].join(" ");
    assert_eq!((status(proxy, "Uid"), status(proxy, "Gid")), (four(daemon.uid), four(daemon.gid)));
    let groups = status(proxy, "Groups");
    assert!(groups.split(' ').any(|group| group == daemon.gid.to_string()), "{groups}");
    assert!(!groups.split(' ').any(|group| group == "0"), "{groups}");
    // Signals and a stop still reach it.
    supervisor.signal(Signal::HUP).await.unwrap();
    let exit = supervisor.stop(std::time::Duration::from_secs(5), None).await.unwrap();
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn the_proxy_joins_its_cgroups_and_other_processes_in_them_die_with_it() {
    let fixture = Fixture::new();
    let task = TaskCgroups::v1();
    let mut launch = fixture.launch("1");
    launch.cgroups = task.cgroups.clone();
    let supervisor = fixture.start(launch).await;
    let (proxy, above) = (&supervisor.record().proxy, &supervisor.record().supervisor);
    assert_eq!(task.cgroups.pids(), [proxy.pid]);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", above.pid)).unwrap(), own, "the agent's");

    // `exec`: one process, whether or not this shell forks for its last command.
    let mut beside = task.shell("exec sleep 600");
    until("both are in the cgroup", || task.cgroups.pids().len() == 2).await;
    supervisor.signal(Signal::KILL).await.unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.signal, exit.oom_killed), (9, false));
    assert!(beside.0.try_wait().unwrap().is_some(), "it ended before the exit was reported");
}

#[tokio::test]
async fn a_kill_for_lack_of_memory_is_reported_as_such() {
    let fixture = Fixture::new();
    let task = TaskCgroups::v1();
    let mut launch = fixture.launch("1");
    launch.cgroups = task.cgroups.clone();
    // The kernel chooses the proxy, whichever process needs the memory.
    launch.oom_score_adj = 1000;
    let supervisor = fixture.start(launch).await;
    let limit = task.of_controller("memory").join("memory.limit_in_bytes");
    fs::write(limit, (128 << 20).to_string()).unwrap();
    let _greedy = task.shell("head -c 300M /dev/zero | tail");
    let mut events = supervisor.events().await.unwrap();
    let told = async {
        while let Some(event) = events.next().await {
            if event.event.message.contains("killed for lack of memory") {
                return;
            }
        }
        panic!("there are no more events");
    };
    soon(told).await;
}

fn environment(process: &ProcessId) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{}/environ", process.pid)).unwrap();
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
