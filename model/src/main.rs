//! Explores every world, or one, and tells what was found; or tries out the mutants.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, thread};

use model::{Counterexample, SETUPS, Setup};

const USAGE: &str = "\
usage: model [--depth N | --deepen N] [--setup NAME]   explore every history with up to N disturbances
       model --mutants                                 see whether the search finds out every mutant

Without --depth each setup has its own. --deepen begins with one disturbance and goes on to N, so that what it finds is
as short as can be. Exit codes: 0 no law is broken, 1 a law is broken (or a mutant lives), 2 wrong usage or a failure.";

fn main() -> ExitCode {
    let outcome = match Order::parse(env::args().skip(1)) {
        Some(Order::Mutants) => mutants(),
        Some(Order::Explore(plan)) => plan.run(),
        None => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

enum Order {
    Explore(Plan),
    Mutants,
}

#[derive(Default)]
struct Plan {
    depth: Option<usize>,
    deepens: bool,
    setup: Option<String>,
}

impl Order {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut plan = Plan::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--mutants" => return arguments.next().is_none().then_some(Self::Mutants),
                "--depth" | "--deepen" => {
                    plan.depth = Some(arguments.next()?.parse().ok()?);
                    plan.deepens = argument == "--deepen";
                }
                "--setup" => plan.setup = Some(arguments.next()?),
                _ => return None,
            }
        }
        Some(Self::Explore(plan))
    }
}

impl Plan {
    fn run(&self) -> Result<bool, Box<dyn Error>> {
        let wanted = |setup: &&Setup| self.setup.as_ref().is_none_or(|name| name == setup.name);
        let setups: Vec<&Setup> = SETUPS.iter().filter(wanted).collect();
        if setups.is_empty() {
            let names: Vec<&str> = SETUPS.iter().map(|setup| setup.name).collect();
            return Err(format!("there is no such setup, only: {}", names.join(", ")).into());
        }
        for setup in setups {
            let deepest = self.depth.unwrap_or(setup.depth);
            for depth in if self.deepens { 1..=deepest } else { deepest..=deepest } {
                if let Some(counterexample) = explore(*setup, depth)? {
                    tell(&counterexample)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn explore(setup: Setup, depth: usize) -> Result<Option<Counterexample>, Box<dyn Error>> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let explored = model::explore(setup, depth, threads)?;
    println!(
        "{}: {depth} disturbances, {} states, {} of them forwarding; recovered within {} rounds; {:.1} s",
        setup.name,
        explored.states,
        explored.forwarding,
        explored.slowest_recovery,
        begun.elapsed().as_secs_f64()
    );
    Ok(explored.broken)
}

/// Prints the counterexample and writes it as a scenario file, of which it says where.
fn tell(counterexample: &Counterexample) -> Result<(), Box<dyn Error>> {
    let scenario = counterexample.scenario()?;
    println!("{scenario}");
    let file = env::temp_dir().join(format!("law-{}-is-broken.txt", counterexample.broken.law));
    fs::write(&file, scenario)?;
    println!("(written to {})", file.display());
    Ok(())
}

fn mutants() -> Result<bool, Box<dyn Error>> {
    let directory = env::temp_dir().join(format!("pg-leader-proxy-mutants-{}", std::process::id()));
    let verdicts = model::try_out_mutants(&directory);
    fs::remove_dir_all(&directory)?;
    let mut all_caught = true;
    for (mutation, verdict) in verdicts? {
        let caught = verdict.has_caught(mutation.law);
        all_caught &= caught;
        println!("{} {}", if caught { "caught:" } else { "LIVES: " }, mutation.name);
        verdict.tale().for_each(|line| println!("    {line}"));
    }
    Ok(all_caught)
}
