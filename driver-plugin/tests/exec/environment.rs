//! What a command starts with: cgroups, environment, user, signals, descriptors.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nomad_driver_pg_leader_proxy::exec::{self, ExecSpec};
use nomad_driver_pg_leader_proxy::user::Account;

use crate::cgroups::TaskCgroups;
use crate::harness::{PROGRAM, command, shell, wrapper, writable};

async fn output_by(program: &Path, spec: &ExecSpec) -> String {
    let output = exec::run(program, spec, Some(Duration::from_secs(20))).await.unwrap();
    let text = String::from_utf8(output.bytes).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

async fn output(spec: &ExecSpec) -> String {
    output_by(PROGRAM.as_ref(), spec).await
}

fn root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

#[tokio::test]
async fn a_command_is_in_the_cgroups_of_the_task() {
    let (v1, v2) = (TaskCgroups::v1(), TaskCgroups::v2());
    let expected = [
        ["freezer", "memory", "cpu"].map(|name| format!(":{name}:/{}/alloc.proxy\n", v1.parent)).to_vec(),
        vec![format!(":cpuset:/{}/reserve/alloc.proxy\n", v1.parent)],
        vec![format!("0::/{}/share.slice/alloc.proxy.scope\n", v2.parent)],
    ];
    for (task, expected) in [(&v1, expected[..2].concat()), (&v2, expected[2].clone())] {
        let cgroups = task.cgroups.clone();
        let text = output(&ExecSpec { cgroups, ..command(&["cat", "/proc/self/cgroup"]) }).await;
        for line in expected {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }
}

#[tokio::test]
async fn environment_and_directory_are_exactly_those_of_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = shell("env -u HOME -u USER -u LOGNAME -u PWD -u OLDPWD -u SHLVL -u _ env; pwd");
    spec.environment.insert("PGLP_PROBE_PASSWORD".to_owned(), "a secret\nof two lines".to_owned());
    spec.directory = directory.path().canonicalize().unwrap();
    let text = output(&spec).await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let directory = spec.directory.to_string_lossy();
    let mut expected =
        ["PATH=/usr/bin:/bin", "PGLP_PROBE_PASSWORD=a secret", "of two lines", directory.as_ref()];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_path_of_the_task() {
    let directory = writable();
    let program = wrapper(directory.path(), "echo from the path; exit 0");
    let mut spec = command(&[program.file_name().unwrap().to_str().unwrap()]);
    spec.environment.insert("PATH".to_owned(), directory.path().to_string_lossy().into_owned());
    assert_eq!(output(&spec).await, "from the path\n");
}

#[tokio::test]
async fn a_command_leads_its_own_session() {
    let text = output(&shell("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)")).await;
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert!(numbers.len() == 3 && numbers.iter().all(|number| *number == numbers[0]), "{text}");
}

#[tokio::test]
async fn signals_umask_descriptors_and_oom_score_are_not_inherited_from_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let program = wrapper(
        directory.path(),
        "trap '' HUP INT QUIT TERM USR1 CHLD; umask 077; exec 7</dev/null; echo 300 > /proc/self/oom_score_adj",
    );
    let script = "grep SigIgn /proc/self/status; umask; cat /proc/self/oom_score_adj; exec ls /proc/self/fd";
    let text = output_by(&program, &shell(script)).await;
    let (ignored, rest) = text.split_once('\n').unwrap();
    // 32 and 33 are glibc's own.
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:\t"), 16).unwrap() & 0x7fff_ffff;
    // Descriptor 3 is the directory that `ls` reads.
    assert_eq!((ignored, rest), (0, "0022\n0\n0\n1\n2\n3\n"));
}

#[tokio::test]
async fn a_command_runs_as_the_user_of_the_task() {
    root();
    let script = "id -u; id -G; echo $USER $HOME; echo to stderr > /dev/stderr; grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status";
    let text = output(&shell(script)).await;
    let expected = [
        "65534",
        "65534",
        "nobody /nonexistent",
        "to stderr",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let dynamic = ExecSpec {
        account: Some(Account::find("nomad-80123").unwrap()),
        ..shell("id -u; id -G; echo $USER $HOME")
    };
    assert_eq!(output(&dynamic).await, "80123\n80123\n80123 /nonexistent\n");
}

#[tokio::test]
async fn a_command_does_not_run_as_root_and_a_missing_directory_is_named() {
    let root = ExecSpec { account: None, ..shell("true") };
    let mut no_directory = shell("true");
    no_directory.directory = PathBuf::from("/no/such/directory");
    for (spec, text) in
        [(root, "do not run as root"), (no_directory, "to the task's directory: No such file")]
    {
        let output = exec::run(PROGRAM.as_ref(), &spec, None).await.unwrap();
        let said = String::from_utf8(output.bytes).unwrap();
        assert_eq!(output.status.code(), Some(126));
        assert!(said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn arguments_and_environment_of_the_shim_contain_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let program = wrapper(directory.path(), &format!("{{ echo \"$@\"; env; }} > {}", seen.display()));
    let mut spec = command(&["echo", "an argument"]);
    spec.environment.insert("SECRET".to_owned(), "a secret".to_owned());
    assert_eq!(output_by(&program, &spec).await, "an argument\n");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(
        seen.starts_with("exec-shim\n") && !seen.contains("secret") && !seen.contains("argument"),
        "{seen}"
    );
    assert!(!format!("{spec:?}").contains("a secret"));
}
