//! Commands at a terminal.

use std::time::{Duration, Instant};

use crate::stage::{Client, closed, command, heartbeat, play, shell, sized, typed};

#[tokio::test]
async fn both_outputs_are_one_and_lines_end_as_on_a_terminal() {
    let said = play(shell("echo hello stdout; echo hello stderr >&2; exit 43"), true, []).await;
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("hello stdout\r\nhello stderr\r\n", ""));
    assert_eq!(said.code(), 43);
    assert_eq!(said.last_words, ["stdout closed", "stderr closed", "exited"]);
}

#[tokio::test]
async fn nothing_of_a_short_life_is_lost() {
    for round in 0..30 {
        let said = play(shell(&format!("echo {round}; exec echo last")), true, [sized(24, 80)]).await;
        assert_eq!(said.stdout, format!("{round}\r\nlast\r\n"));
    }
}

#[tokio::test]
async fn the_size_is_there_when_the_command_starts() {
    let said = play(shell("stty size"), true, [heartbeat(), sized(30, 120)]).await;
    assert_eq!((said.stdout.as_str(), said.code()), ("30 120\r\n", 0));
}

#[tokio::test]
async fn a_size_is_waited_for_but_not_long() {
    let start = Instant::now();
    assert_eq!(play(command(&["true"]), true, []).await.code(), 0);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(100) && waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn of_two_sizes_the_last_one_counts() {
    let requests = [sized(50, 40), sized(100, 100), typed("")];
    let said = play(shell("sleep 0.5; stty size"), true, requests).await;
    assert_eq!((said.stdout.as_str(), said.code()), ("100 100\r\n", 0));
}

#[tokio::test]
async fn a_command_learns_of_a_new_size() {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let mut client = Client::start(shell(script), true);
    client.send([sized(24, 80)]).await;
    client.read_until("ready").await;
    client.send([sized(100, 100)]).await;
    let said = client.finish().await;
    assert_eq!((said.stdout.trim(), said.code()), ("100 100", 0));
}

#[tokio::test]
async fn a_size_that_makes_no_sense_is_no_obstacle() {
    let said = play(shell("stty size"), true, [sized(-5, 1_000_000)]).await;
    assert_eq!(said.stdout, "0 65535\r\n");
}

#[tokio::test]
async fn what_is_typed_is_echoed_and_read() {
    let said = play(shell("head -n1"), true, [typed("hello from stdin\n")]).await;
    assert_eq!(said.stdout, "hello from stdin\r\nhello from stdin\r\n");
    assert_eq!(said.code(), 0);
}

#[tokio::test]
async fn the_end_of_the_input_is_one_wherever_on_the_line() {
    for (text, echoed_and_read) in [("", 0), ("whole\n", 2), ("half", 2)] {
        let said = play(command(&["cat"]), true, [typed(text), closed()]).await;
        assert_eq!(said.code(), 0, "{text:?}");
        let count = said.stdout.matches("whole").count() + said.stdout.matches("half").count();
        assert_eq!(count, echoed_and_read, "{said:?}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_command_in_the_foreground() {
    let mut client = Client::start(
        shell("trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"),
        true,
    );
    client.read_until("ready").await;
    client.send([typed("\x03")]).await;
    let said = client.finish().await;
    assert!(said.stdout.contains("caught"), "{said:?}");
    assert_eq!(said.code(), 7);
}

#[tokio::test]
async fn it_is_the_terminal_of_the_session() {
    let said = play(shell("tty -s && echo by name > /dev/tty"), true, []).await;
    assert_eq!((said.stdout.as_str(), said.code()), ("by name\r\n", 0));
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_end_up() {
    let start = Instant::now();
    let script = "(( sleep 10; echo from background ) & ); echo from main; exec sleep 0.2";
    let said = play(shell(script), true, []).await;
    assert_eq!((said.stdout.as_str(), said.code()), ("from main\r\n", 0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let said = play(shell("head -c 1000000 /dev/zero | tr '\\0' x"), true, [sized(24, 80)]).await;
    assert_eq!(said.stdout.len(), 1_000_000);
}

#[tokio::test]
async fn much_input_arrives_whole() {
    let line = format!("{}\n", "y".repeat(99));
    let requests = (0..1000).map(|_| typed(&line)).chain([closed()]);
    let said = play(shell("stty -echo; echo ready; cat | wc -c"), true, requests).await;
    assert!(said.stdout.contains("100000"), "{}", said.stdout.len());
}

#[tokio::test]
async fn a_command_that_does_not_exist_says_so_on_the_terminal() {
    let said = play(command(&["no-such-program"]), true, []).await;
    assert_eq!(said.code(), 127);
    assert!(said.stdout.contains("cannot run `no-such-program`"), "{said:?}");
}
