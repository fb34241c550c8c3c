//! Every history with up to two disturbances, in every world, and the mutants that show that the search can fail.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and its figures are of interest"
)]

use std::fs;

use model::{MUTATIONS, SETUPS, explore, try_out_mutants};

/// Deeper than this it takes minutes: see `make model`.
const DEPTH: usize = 2;

#[test]
fn no_history_with_two_disturbances_breaks_a_law() {
    for setup in SETUPS {
        let explored = explore(setup, DEPTH, 2).unwrap();
        if let Some(counterexample) = explored.broken {
            panic!("{}\n{}", setup.name, counterexample.scenario().unwrap());
        }
        println!("{}: {} states, {} of them forwarding", setup.name, explored.states, explored.forwarding);
        assert!(explored.states > 10_000, "{}: only {} states", setup.name, explored.states);
        assert!(
            explored.forwarding > explored.states / 5,
            "{}: only {} forward",
            setup.name,
            explored.forwarding
        );
    }
}

#[test]
fn the_same_states_are_found_on_one_thread_and_on_three() {
    let found = [1, 3].map(|threads| explore(SETUPS[0], 1, threads).unwrap());
    assert_eq!(found[0].states, found[1].states);
    assert_eq!(found[0].forwarding, found[1].forwarding);
}

#[test]
fn every_mutant_of_the_core_breaks_the_law_that_its_rule_is_for() {
    let directory = std::env::temp_dir().join(format!("pg-leader-proxy-mutants-{}", std::process::id()));
    let verdicts = try_out_mutants(&directory);
    fs::remove_dir_all(&directory).unwrap();
    let verdicts = verdicts.unwrap();
    assert_eq!(verdicts.len(), MUTATIONS.len());
    for (mutation, verdict) in verdicts {
        assert!(verdict.has_caught(mutation.law), "{} lives:\n{}", mutation.name, verdict.told);
    }
}
