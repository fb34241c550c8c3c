//! The processes as the operating system sees them: descriptors, user, groups, environment, session, memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nomad_driver_pg_leader_proxy::identity::Identity;
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_driver_pg_leader_proxy::signal::Signal;
use nomad_plugin_proto::driver::LinuxResources;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::scene::{Scene, descriptors, listening, set, soon, status, until};

#[tokio::test]
async fn no_descriptor_of_the_plugin_reaches_supervisor_or_relay() {
    let scene = Scene::new();
    let leaked = File::create(scene.path("leaked")).unwrap();
    // As one that a careless parent of the plugin has left open.
    fcntl_setfd(&leaked, FdFlags::empty()).unwrap();
    let supervisor = scene.start(scene.launch("1")).await;
    let kept = listening(&supervisor.record().supervisor, scene.address);
    for process in [&supervisor.record().supervisor, &supervisor.record().relay] {
        let open = descriptors(process);
        assert_eq!(open[&0], "/dev/null");
        let ours = |target: &&String| {
            let target = Path::new(target);
            // Sockets, and what waits for them and for processes.
            !target.to_string_lossy().starts_with("socket:[")
                && !target.to_string_lossy().starts_with("anon_inode:")
        };
        let (standard, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            open.iter().partition(|(number, _)| **number <= 2);
        assert_eq!(standard.len(), 3);
        let others: Vec<&String> = others.into_values().filter(ours).collect();
        assert!(others.is_empty(), "{others:?} of {open:?}");
    }
    let plugin: Vec<String> = descriptors(&Identity::of_this_process().unwrap()).into_values().collect();
    let supervised = descriptors(&supervisor.record().supervisor);
    let shared: Vec<&String> = supervised
        .values()
        .filter(|target| target.starts_with("socket:[") && plugin.contains(target))
        .collect();
    assert!(shared.is_empty(), "{shared:?}");
    assert_eq!([&supervised[&1], &supervised[&2]], ["/dev/null", "/dev/null"]);
    assert_eq!(kept.len(), 1);
    let log = fs::canonicalize(scene.path("log")).unwrap();
    assert_eq!(descriptors(&supervisor.record().relay)[&2], log.to_string_lossy());
    assert!(leaked.as_raw_fd() > 2);
}

#[tokio::test]
async fn the_log_collector_sees_the_end_although_the_supervisor_lives() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    let fifos = ["stdout", "stderr"].map(|name| scene.path(name));
    let mut readers = Vec::new();
    for fifo in &fifos {
        mknodat(CWD, fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let fifo = fifo.clone();
        readers.push(std::thread::spawn(move || {
            let mut text = String::new();
            File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
            text
        }));
    }
    [launch.stdout, launch.stderr] = fifos;
    let supervisor = scene.start(launch).await;
    supervisor.signal(Signal::KILL).await.unwrap();
    until("both ends are seen", || readers.iter().all(std::thread::JoinHandle::is_finished)).await;
    assert!(supervisor.record().supervisor.alive());
    let texts: Vec<String> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert_eq!(texts[0], "");
    assert!(texts[1].contains("listening"), "{}", texts[1]);
}

#[tokio::test]
async fn a_log_collector_that_dies_takes_nothing_with_it() {
    let scene = Scene::new();
    let mut launch = scene.launch("1");
    launch.stderr = scene.path("fifo");
    mknodat(CWD, &launch.stderr, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let reader = rustix::fs::open(&launch.stderr, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let supervisor = scene.start(launch).await;
    drop(reader);
    for _ in 0..5 {
        // Each is a line of the log.
        supervisor.signal(Signal::HUP).await.unwrap();
        assert_eq!(scene.connect().await.unwrap().answer().await, Some('E'));
    }
    assert!(supervisor.record().relay.alive());
    let exit = supervisor.stop(std::time::Duration::from_secs(5), None).await.unwrap();
    assert_eq!((exit.code, exit.signal), (0, 0));
}

#[tokio::test]
async fn the_relay_is_what_it_was_told_to_be_and_nothing_of_the_plugin() {
    let scene = Scene::new();
    open_to_all(&scene);
    let port = 400 + scene.address.port() % 600;
    let address = std::net::SocketAddr::new(scene.address.ip(), port);
    let mut launch = scene.launch("1");
    set(&mut launch, "write.listen", &address.to_string());
    launch.user = Some("nomad-80123".to_owned());
    launch.oom_score_adj = 123;
    launch.environment.insert("NOMAD_TASK_NAME".to_owned(), "proxy".to_owned());
    let expected = launch.environment.clone();
    let supervisor = scene.start(launch).await;
    let (relay, above) = (&supervisor.record().relay, &supervisor.record().supervisor);

    for ids in ["Uid", "Gid"] {
        assert_eq!(status(relay, ids), "80123 80123 80123 80123", "{ids}");
        assert_eq!(status(above, ids), "0 0 0 0", "{ids}");
    }
    assert_eq!(status(relay, "Groups"), "80123");
    assert_eq!(status(relay, "CapEff"), "0000000000000000");
    assert_eq!((status(relay, "Umask"), status(above, "Umask")), ("0022".to_owned(), "0077".to_owned()));
    assert_eq!((status(relay, "SigBlk"), status(above, "SigBlk")), ("0".repeat(16), "0".repeat(16)));
    assert_eq!(
        (status(relay, "Name"), status(above, "Name")),
        ("pg-leader-proxy".into(), "pglp-supervisor".into())
    );
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", relay.pid)).unwrap(), "123\n");
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/oom_score_adj", above.pid)).unwrap(), own);

    assert_eq!(environment(relay), expected);
    assert_eq!(environment(above), BTreeMap::new(), "the agent's secrets stay with the agent");
    let directory = fs::read_link(format!("/proc/{}/cwd", relay.pid)).unwrap();
    assert_eq!(directory, fs::canonicalize(scene.path(".")).unwrap());
    assert_eq!(status(above, "NSsid"), above.pid.to_string(), "a session of its own");
    let mode = |path: PathBuf| std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap()) & 0o777;
    let directory = &supervisor.record().directory;
    assert_eq!((mode(directory.clone()), mode(directory.join("control.sock"))), (0o700, 0o600));
    assert!(std::net::TcpStream::connect(address).is_ok(), "a port that takes root to bind");
}

#[tokio::test]
async fn a_named_user_has_its_own_groups() {
    let scene = Scene::new();
    open_to_all(&scene);
    let mut launch = scene.launch("1");
    launch.user = Some("daemon".to_owned());
    let supervisor = scene.start(launch).await;
    let daemon = nomad_driver_pg_leader_proxy::user::Account::find("daemon").unwrap();
    let relay = &supervisor.record().relay;
    let four = |id: u32| vec![id.to_string(); 4].join(" ");
    assert_eq!((status(relay, "Uid"), status(relay, "Gid")), (four(daemon.uid), four(daemon.gid)));
    let groups = status(relay, "Groups");
    assert!(groups.split(' ').any(|group| group == daemon.gid.to_string()), "{groups}");
    assert!(!groups.split(' ').any(|group| group == "0"), "{groups}");
    // SIGHUP and a stop reach it all the same.
    supervisor.signal(Signal::HUP).await.unwrap();
    let exit = supervisor.stop(std::time::Duration::from_secs(5), None).await.unwrap();
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn the_relay_joins_its_cgroups_and_what_is_left_there_dies_with_it() {
    let scene = Scene::new();
    let groups = Groups::new(&scene);
    let mut launch = scene.launch("1");
    launch.cgroups = groups.0.clone();
    let supervisor = scene.start(launch).await;
    let (relay, above) = (&supervisor.record().relay, &supervisor.record().supervisor);
    assert_eq!(groups.0.processes(), [relay.pid]);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", above.pid)).unwrap(), own, "the agent's");

    let mut beside = beside(relay, "sleep 600");
    until("it is there", || groups.0.processes().len() == 2).await;
    supervisor.signal(Signal::KILL).await.unwrap();
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.signal, exit.oom_killed), (9, false), "nobody lacked memory");
    assert!(beside.try_wait().unwrap().is_some(), "it ended before the exit was told");
}

#[tokio::test]
async fn a_relay_that_is_killed_for_want_of_memory_is_told_from_one_that_is_killed() {
    let scene = Scene::new();
    let groups = Groups::new(&scene);
    let mut launch = scene.launch("1");
    launch.cgroups = groups.0.clone();
    // The first that the kernel takes, whoever wants the memory.
    launch.oom_score_adj = 1000;
    let supervisor = scene.start(launch).await;
    let [memory, _] = groups_of(&supervisor.record().relay);
    fs::write(memory.join("memory.limit_in_bytes"), (128 << 20).to_string()).unwrap();
    let mut greedy = beside(&supervisor.record().relay, "head -c 300M /dev/zero | tail");
    let exit = soon(supervisor.exited()).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (137, 9, true), "{exit:?}");
    greedy.wait().unwrap();
}

/// Others than the one who runs the test may read what is there.
fn open_to_all(scene: &Scene) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scene.path("."), mode).unwrap();
}

fn environment(process: &Identity) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{}/environ", process.pid)).unwrap();
    let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The groups of a process that count its memory and that list it (version 1, which this machine has).
fn groups_of(process: &Identity) -> [PathBuf; 2] {
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).unwrap();
    ["memory", "freezer"].map(|controller| {
        let infix = format!(":{controller}:/");
        let path = groups.lines().find_map(|line| line.split_once(&infix)).expect("cgroup version 1").1;
        Path::new("/sys/fs/cgroup").join(controller).join(path)
    })
}

/// A shell that runs the script in the groups of a process.
fn beside(process: &Identity, script: &str) -> Child {
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for group in groups_of(process) {
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    child
}

/// Groups of a task as Nomad gives them, gone at the end.
struct Groups(Cgroups);

impl Groups {
    fn new(scene: &Scene) -> Self {
        let parent = format!("pglp-supervisor-{}-{}", std::process::id(), scene.address.port());
        let path = format!("/sys/fs/cgroup/cpuset/{parent}/reserve/alloc.proxy");
        let resources = LinuxResources { cpuset_cgroup: path, ..LinuxResources::default() };
        let mut cgroups = Cgroups::of("alloc", "proxy", &resources).unwrap();
        cgroups.make().unwrap();
        Self(cgroups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        self.0.remove();
    }
}
