//! What a command is when it starts: where it belongs, whom it runs as, and what it has inherited.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nomad_driver_pg_leader_proxy::exec::{self, Ending, Entry};
use nomad_driver_pg_leader_proxy::resources::Cgroups;
use nomad_plugin_proto::driver::LinuxResources;

use crate::stage::{PROGRAM, command, shell, spoiled};

async fn output_by(program: &Path, entry: &Entry) -> String {
    let output = exec::run(program, entry, Some(Duration::from_secs(20))).await.unwrap();
    let text = String::from_utf8(output.bytes).unwrap();
    assert_eq!(output.ending, Ending::Exited(0), "{text}");
    text
}

async fn output(entry: &Entry) -> String {
    output_by(PROGRAM.as_ref(), entry).await
}

fn root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

#[tokio::test]
async fn a_command_is_in_the_tasks_cgroups() {
    root();
    let parent = format!("pglp-test-exec-{}", std::process::id());
    let resources = |path: String| LinuxResources { cpuset_cgroup: path, ..LinuxResources::default() };
    let v1 = resources(format!("/sys/fs/cgroup/cpuset/{parent}/reserve/a.proxy"));
    let v2 = resources(format!("/sys/fs/cgroup/unified/{parent}/a.proxy.scope"));
    let expected = [
        vec![
            format!(":freezer:/{parent}/a.proxy\n"),
            format!(":memory:/{parent}/a.proxy\n"),
            format!(":cpu:/{parent}/a.proxy\n"),
            format!(":cpuset:/{parent}/reserve/a.proxy\n"),
        ],
        vec![format!("0::/{parent}/a.proxy.scope\n")],
    ];
    for (given, expected) in [v1, v2].iter().zip(expected) {
        let mut cgroups = Cgroups::of("a", "proxy", given).unwrap();
        cgroups.make().unwrap();
        let text =
            output(&Entry { cgroups: cgroups.clone(), ..command(&["cat", "/proc/self/cgroup"]) }).await;
        cgroups.remove();
        for line in expected {
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(!Path::new(&given.cpuset_cgroup).exists());
    }
}

#[tokio::test]
async fn the_environment_and_the_directory_are_the_tasks_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut entry = shell("env -u PWD -u OLDPWD -u SHLVL -u _ env; pwd");
    entry.environment.insert("PGLP_PROBE_PASSWORD".to_owned(), "a secret\nof two lines".to_owned());
    entry.directory = directory.path().canonicalize().unwrap();
    let text = output(&entry).await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let directory = entry.directory.to_string_lossy();
    let mut expected =
        ["PATH=/usr/bin:/bin", "PGLP_PROBE_PASSWORD=a secret", "of two lines", directory.as_ref()];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_tasks_path() {
    let directory = tempfile::tempdir().unwrap();
    let program = spoiled(directory.path(), "echo from the path; exit 0");
    let mut entry = command(&[program.file_name().unwrap().to_str().unwrap()]);
    entry.environment.insert("PATH".to_owned(), directory.path().to_string_lossy().into_owned());
    assert_eq!(output(&entry).await, "from the path\n");
}

#[tokio::test]
async fn a_command_leads_a_session_of_its_own() {
    let text = output(&shell("echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)")).await;
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert!(numbers.len() == 3 && numbers.iter().all(|number| *number == numbers[0]), "{text}");
}

#[tokio::test]
async fn what_the_agent_was_started_with_is_not_inherited() {
    let directory = tempfile::tempdir().unwrap();
    let program = spoiled(
        directory.path(),
        "trap '' HUP INT QUIT TERM USR1 CHLD; umask 077; exec 7</dev/null; echo 300 > /proc/self/oom_score_adj",
    );
    let script = "grep SigIgn /proc/self/status; umask; cat /proc/self/oom_score_adj; exec ls /proc/self/fd";
    let text = output_by(&program, &shell(script)).await;
    let (ignored, rest) = text.split_once('\n').unwrap();
    // 32 and 33 are glibc's own.
    let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:\t"), 16).unwrap() & 0x7fff_ffff;
    // Through 3 `ls` reads the directory.
    assert_eq!((ignored, rest), (0, "0022\n0\n0\n1\n2\n3\n"));
}

#[tokio::test]
async fn a_command_runs_as_the_tasks_user() {
    root();
    let script =
        "id -u; id -G; echo $USER $HOME; echo to stderr > /dev/stderr; grep CapEff /proc/self/status";
    let nobody = Entry { user: Some("nobody".to_owned()), ..shell(script) };
    let text = output(&nobody).await;
    let expected = ["65534", "65534", "nobody /nonexistent", "to stderr", "CapEff:\t0000000000000000"];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let dynamic = Entry { user: Some("nomad-80123".to_owned()), ..shell("id -u; id -G; echo $USER $HOME") };
    assert_eq!(output(&dynamic).await, "80123\n80123\n80123 /nonexistent\n");
}

#[tokio::test]
async fn a_user_or_a_directory_that_does_not_exist_is_named() {
    let mut stranger = shell("true");
    stranger.user = Some("no-such-user".to_owned());
    let mut lost = shell("true");
    lost.directory = PathBuf::from("/no/such/directory");
    for (entry, text) in
        [(stranger, "no user `no-such-user`"), (lost, "enter the task's directory: No such file")]
    {
        let output = exec::run(PROGRAM.as_ref(), &entry, None).await.unwrap();
        let said = String::from_utf8(output.bytes).unwrap();
        assert_eq!(output.ending, Ending::Exited(126));
        assert!(said.contains(text), "{said}");
    }
}

#[tokio::test]
async fn the_trampolines_own_arguments_and_environment_say_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    let program = spoiled(directory.path(), &format!("{{ echo \"$@\"; env; }} > {}", seen.display()));
    let mut entry = command(&["echo", "an argument"]);
    entry.environment.insert("SECRET".to_owned(), "a secret".to_owned());
    assert_eq!(output_by(&program, &entry).await, "an argument\n");
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.starts_with("enter\n") && !seen.contains("secret") && !seen.contains("argument"), "{seen}");
    assert!(!format!("{entry:?}").contains("a secret"));
}
