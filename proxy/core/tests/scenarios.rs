//! Every file in `scenarios/` is a story of one cluster; each must come out as it is written.

#![allow(clippy::unwrap_used)]

mod script;

use std::fs;
use std::path::Path;

use script::{Line, Scenario, Step, parse, run, story};

#[test]
fn every_scenario_comes_out_as_it_is_written() {
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
fn every_scenario_begins_with_what_it_tells_and_expects_something() {
    for (file, text) in files() {
        assert!(text.starts_with("# "), "{file} does not begin with a comment that says what it tells");
        let scenario = parse(&file, &text).unwrap();
        let expects = scenario.lines.iter().any(|(_, line)| matches!(line, Line::Expect(_)));
        assert!(expects, "{file} expects nothing");
    }
}

#[test]
fn what_is_printed_is_read_back_as_the_same() {
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
fn a_story_is_read_back_with_its_comment() {
    let steps =
        steps("0s members a b@[::1]:5433(noloadbalance)\n1.5s key a 10 lease 20s asked 1s seen 1.25s");
    let text = story("Two lines\nof comment.", &steps);
    assert!(text.starts_with("# Two lines\n# of comment.\n0s members a b@[::1]:5433(noloadbalance)\n"));
    assert_eq!(parse("story", &text).unwrap().steps(), steps);
}

#[test]
fn a_line_that_is_not_understood_is_named_with_its_file_and_number() {
    let cases = [
        ("0s dance", "`dance` is nothing that happens"),
        ("0s probe a primary", "a timeline is missing"),
        ("0s probe a primary one", "`one` is not a timeline"),
        ("0s probe a asleep", "`asleep` is nothing that comes of a probe"),
        ("0s probe a primary 1 replayed 0/1", "`replayed` says nothing about this probe"),
        ("0s probe a primary 1 sent 1s", "the answer is older than the question"),
        ("0s probe a replica 1 replayed 12", "`12` is no LSN"),
        ("0s key a 10 leese 4s", "`leese` is too much"),
        ("0s members", "the members are missing; write `none`"),
        ("0s members a@nowhere", "`nowhere` is not host:port"),
        ("0s config lazy", "`lazy` is nothing in the cluster's configuration"),
        ("0s switchover maybe", "a switchover is `announced` or `over`, not `maybe`"),
        ("policy mood=good", "`mood=good` is no setting of the policy"),
        (
            "policy max_member_probe_age=1ms",
            "max_member_probe_age is 1ms, shorter than two probe intervals (1s)",
        ),
        ("soon tick", "`soon` is no time; write `20s`, `0.25s` or `250ms`"),
        ("=> hold everything", "no reason has the code `everything`"),
        ("=> forward a", "the epoch is missing"),
        ("=> forward a, epoch 1, gladly", "`gladly` says nothing about forwarding"),
        ("=> report arrived 1s", "`arrived` is no step of a report"),
        ("=> applause", "`applause` is nothing that can be expected"),
    ];
    for (line, why) in cases {
        let error = parse("play.txt", &format!("# A comment.\n\n  {line}\n")).unwrap_err();
        assert_eq!(error.to_string(), format!("play.txt:3: {why}\n    {line}"));
    }
}

#[test]
fn time_that_goes_back_is_not_understood() {
    let error = parse("play.txt", "2s tick\n1s tick").unwrap_err();
    assert_eq!(error.to_string(), "play.txt:2: time goes back: it was 2.000s already\n    1s tick");
}

#[test]
fn an_expectation_that_is_not_met_is_named_with_what_happened_instead() {
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
        .map(|entry| entry.unwrap().path())
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
