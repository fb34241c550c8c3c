//! Runs every file in `scenarios/`, and tests the scenario language.

#![allow(clippy::unwrap_used)]

mod script;

use std::fs;
use std::path::Path;

use script::{Line, Scenario, Step, parse, run, scenario_text};

#[test]
fn every_scenario_meets_its_expectations() {
    let troubles: Vec<String> = files()
        .into_iter()
        .filter_map(|(file, text)| {
            parse(&file, &text).and_then(|scenario| run(&file, &text, &scenario)).err()
        })
        .map(|error| error.to_string())
        .collect();
    assert!(troubles.is_empty(), "\n{}\n", troubles.join("\n"));
}

#[test]
fn every_scenario_begins_with_a_comment_and_expects_something() {
    for (file, text) in files() {
        assert!(text.starts_with("# "), "{file} does not begin with a comment");
        let scenario = parse(&file, &text).unwrap();
        let expects = scenario.lines.iter().any(|(_, line)| matches!(line, Line::Expect(_)));
        assert!(expects, "{file} expects nothing");
    }
}

#[test]
fn printed_scenarios_are_read_back_unchanged() {
    for (file, text) in files() {
        let scenario = parse(&file, &text).unwrap();
        let printed: String = scenario
            .lines
            .iter()
            .map(|(_, line)| match line {
                Line::Step(step) => format!("{step}\n"),
                Line::Expect(expectation) => format!("{expectation}\n"),
            })
            .collect();
        let again = parse(&file, &printed).unwrap();
        assert_eq!(meaning(&again), meaning(&scenario), "{file}");
    }
}

#[test]
fn a_printed_history_is_read_back_with_its_comment() {
    let steps =
        steps("0s members a b@[::1]:5433(noloadbalance)\n1.5s key a 10 lease 20s asked 1s seen 1.25s");
    let text = scenario_text("Two lines\nof comment.", &steps);
    assert!(text.starts_with("# Two lines\n# of comment.\n0s members a b@[::1]:5433(noloadbalance)\n"));
    assert_eq!(parse("story", &text).unwrap().steps(), steps);
}

#[test]
fn a_wrong_line_is_named_with_its_file_and_number() {
    let cases = [
        ("0s dance", "`dance` is not an input"),
        ("0s probe a primary", "a timeline is missing"),
        ("0s probe a primary one", "`one` is not a timeline"),
        ("0s probe a asleep", "`asleep` is not an outcome of a probe"),
        ("0s probe a primary 1 replayed 0/1", "`replayed` does not apply to this probe"),
        ("0s probe a primary 1 sent 1s", "the reply is older than the probe"),
        ("0s probe a replica 1 replayed 12", "`12` is not an LSN"),
        ("0s key a 10 leese 4s", "`leese` is too much"),
        ("0s members", "the members are missing; write `none`"),
        ("0s members a@nowhere", "`nowhere` is not host:port"),
        ("0s config lazy", "`lazy` is not a setting of the cluster's configuration"),
        ("0s switchover maybe", "a switchover is `announced` or `over`, not `maybe`"),
        ("policy mood=good", "`mood=good` is not an option of the policy"),
        (
            "policy max_member_probe_age=1ms",
            "max_member_probe_age is 1 ms, shorter than two probe intervals (1 s)",
        ),
        ("soon tick", "`soon` is not a time; write `20s`, `0.25s` or `250ms`"),
        ("=> hold everything", "no reason has the code `everything`"),
        ("=> forward a", "the epoch is missing"),
        ("=> forward a, epoch 1, gladly", "`gladly` is not a detail of forwarding"),
        ("=> report arrived 1s", "`arrived` is not a step of a report"),
        ("=> applause", "`applause` is not an expectation"),
    ];
    for (line, why) in cases {
        let error = parse("play.txt", &format!("# A comment.\n\n  {line}\n")).unwrap_err();
        assert_eq!(error.to_string(), format!("play.txt:3: {why}\n    {line}"));
    }
}

#[test]
fn time_that_goes_back_is_an_error() {
    let error = parse("play.txt", "2s tick\n1s tick").unwrap_err();
    assert_eq!(error.to_string(), "play.txt:2: time goes back: it was 2.000s already\n    1s tick");
}

#[test]
fn a_failed_expectation_is_named_with_what_happened_instead() {
    let text = "0s members a\n0s key vacant\n   => forward a, epoch 1\n";
    let error = run("play.txt", text, &parse("play.txt", text).unwrap()).unwrap_err();
    let expected =
        "play.txt:3: instead => hold no_leader: no member holds the leader key\n    => forward a, epoch 1";
    assert_eq!(error.to_string(), expected);
}

fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|event_at| event_at.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (format!("scenarios/{name}"), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn steps(text: &str) -> Vec<Step> {
    parse("steps", text).unwrap().steps()
}

fn meaning(scenario: &Scenario) -> Vec<&Line> {
    scenario.lines.iter().map(|(_, line)| line).collect()
}
