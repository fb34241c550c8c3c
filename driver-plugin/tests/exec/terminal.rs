//! `ExecTaskStreaming` with a terminal.

use std::time::{Duration, Instant};

use crate::harness::{Client, all_gone, closed, command, heartbeat, play, shell, sized, typed, writable};

#[tokio::test]
async fn both_outputs_are_one_and_lines_end_with_cr_lf() {
    let received = play(shell("echo hello stdout; echo hello stderr >&2; exit 43"), true, []).await;
    assert_eq!(
        (received.stdout.as_str(), received.stderr.as_str()),
        ("hello stdout\r\nhello stderr\r\n", "")
    );
    assert_eq!(received.code(), 43);
    assert_eq!(received.end_messages, ["stdout closed", "stderr closed", "exited"]);
}

#[tokio::test]
async fn no_output_of_a_short_command_is_lost() {
    for round in 0..30 {
        let received = play(shell(&format!("echo {round}; exec echo last")), true, [sized(24, 80)]).await;
        assert_eq!(received.stdout, format!("{round}\r\nlast\r\n"));
    }
}

#[tokio::test]
async fn the_size_is_set_before_the_command_starts() {
    let received = play(shell("stty size"), true, [heartbeat(), sized(30, 120)]).await;
    assert_eq!((received.stdout.as_str(), received.code()), ("30 120\r\n", 0));
}

#[tokio::test]
async fn the_wait_for_a_size_is_bounded() {
    let start = Instant::now();
    assert_eq!(play(command(&["true"]), true, []).await.code(), 0);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn the_last_of_two_sizes_is_used() {
    let requests = [sized(50, 40), sized(100, 100), typed("")];
    let received = play(shell("sleep 0.5; stty size"), true, requests).await;
    assert_eq!((received.stdout.as_str(), received.code()), ("100 100\r\n", 0));
}

#[tokio::test]
async fn a_new_size_is_signalled_to_the_command() {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut client = Client::start(shell(script), true);
    client.send([sized(24, 80)]).await;
    client.read_until("ready").await;
    client.send([sized(100, 100)]).await;
    let received = client.finish().await;
    assert_eq!((received.stdout.trim(), received.code()), ("100 100", 0));
}

#[tokio::test]
async fn an_impossible_size_is_clamped() {
    let received = play(shell("stty size"), true, [sized(-5, 1_000_000)]).await;
    assert_eq!(received.stdout, "0 65535\r\n");
}

#[tokio::test]
async fn input_is_echoed_and_read() {
    let received = play(shell("head -n1"), true, [typed("hello from stdin\n")]).await;
    assert_eq!(received.stdout, "hello from stdin\r\nhello from stdin\r\n");
    assert_eq!(received.code(), 0);
}

#[tokio::test]
async fn the_input_can_end_anywhere_on_a_line() {
    for (text, echoed_and_read) in [("", 0), ("whole\n", 2), ("half", 2)] {
        let received = play(command(&["cat"]), true, [typed(text), closed()]).await;
        assert_eq!(received.code(), 0, "{text:?}");
        let count = received.stdout.matches("whole").count() + received.stdout.matches("half").count();
        assert_eq!(count, echoed_and_read, "{received:?}");
    }
}

#[tokio::test]
async fn ctrl_c_interrupts_the_command() {
    let mut client = Client::start(
        shell("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"),
        true,
    );
    client.read_until("ready").await;
    client.send([typed("\x03")]).await;
    let received = client.finish().await;
    assert!(received.stdout.contains("caught"), "{received:?}");
    assert_eq!(received.code(), 7);
}

#[tokio::test]
async fn it_is_the_controlling_terminal() {
    let received = play(shell("tty -s && echo by name > /dev/tty"), true, []).await;
    assert_eq!((received.stdout.as_str(), received.code()), ("by name\r\n", 0));
}

#[tokio::test]
async fn a_background_process_does_not_delay_the_end() {
    let start = Instant::now();
    let script = "(( sleep 10; echo from background ) & ); echo from main; exec sleep 0.2";
    let received = play(shell(script), true, []).await;
    assert_eq!((received.stdout.as_str(), received.code()), ("from main\r\n", 0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A shell with job control puts each job into a process group of its own.
#[tokio::test]
async fn the_jobs_of_an_interactive_shell_end_with_it() {
    for way in ["it exits", "the client goes"] {
        let start = Instant::now();
        let (directory, mut client) = (writable(), Client::start(command(&["/bin/sh", "-i"]), true));
        let file = directory.path().join("pid");
        let script = format!("trap \"\" HUP TERM; echo $$ > {}; while :; do sleep 1; done", file.display());
        client.send([typed(&format!("sh -c '{script}' &\n"))]).await;
        let pid: u32 = loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if let Ok(pid) = std::fs::read_to_string(&file).unwrap_or_default().trim().parse() {
                break pid;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the job has not started");
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let group = stat.split_whitespace().nth(4).unwrap();
        assert_eq!(group, pid.to_string(), "it leads its own process group");
        if way == "it exits" {
            client.send([typed("exit\n"), typed("exit\n")]).await;
            client.finish().await;
        } else {
            client.responses.close();
            client.served().await.unwrap();
        }
        all_gone(&[pid]).await;
    }
}

#[tokio::test]
async fn large_output_arrives_completely() {
    let received = play(shell("head -c 1000000 /dev/zero | tr '\\0' x"), true, [sized(24, 80)]).await;
    assert_eq!(received.stdout.len(), 1_000_000);
}

#[tokio::test]
async fn large_input_arrives_completely() {
    let line = format!("{}\n", "y".repeat(99));
    let requests = (0..1000).map(|_| typed(&line)).chain([closed()]);
    let received = play(shell("stty -echo; echo ready; cat | wc -c"), true, requests).await;
    assert!(received.stdout.contains("100000"), "{}", received.stdout.len());
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named_on_the_terminal() {
    let received = play(command(&["no-such-program"]), true, []).await;
    assert_eq!(received.code(), 127);
    assert!(received.stdout.contains("cannot run `no-such-program`"), "{received:?}");
}
