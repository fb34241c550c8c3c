//! The wire benchmark: what each way to a server costs while nothing fails, measured on whole processes.
//!
//! A run makes its `environment` (three `hosts`, a real `postgres`) and goes through its `cases` in rounds, each with every
//! one of the `setups`, which is started for it alone. The figures are stored (`results`) and reported (`report`,
//! `targets`).

mod cases;
mod clients;
mod environment;
mod hosts;
mod mock_server;
mod pgbench;
mod postgres;
mod protocol;
mod report;
mod results;
mod sandbox;
mod setups;
mod targets;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use self::cases::Case;
use self::environment::Environment;
use self::results::{Measurement, Run};
use self::setups::Setup;
use crate::machine::Machine;
use crate::output::Output;

pub use self::cases::Scenario;
pub(crate) use self::cases::held;
pub use self::environment::Sizes;
pub use self::hosts::Network;
pub(crate) use self::protocol::startup_of;
pub use self::setups::SetupKind;

/// How many measurements may fail before the run is given up.
const MAX_FAILED: usize = 10;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
    /// The kinds of setups that take part.
    pub kinds: Vec<SetupKind>,
    /// Other builds of this project's proxy that take part, by name.
    pub variants: Vec<(String, PathBuf)>,
    /// The sizes of the cases.
    pub sizes: Sizes,
    /// What connects the hosts.
    pub network: Network,
    /// Where the results go.
    pub output: Output,
    /// Settings of this project's proxy, `key=value`, for experiments.
    pub proxy_settings: Vec<String>,
}

/// Runs it, and prints each measurement. The results are written after every case, so a run that is broken off leaves what
/// it had. Must be called on the main thread, because the hosts end with the thread that made them.
///
/// # Errors
/// When the environment cannot be made, more than ten measurements fail, or a file cannot be written.
pub fn run(plan: &Plan, out: &mut impl Write) -> Result<()> {
    writeln!(out, "Starting hosts and server …")?;
    out.flush()?;
    let mut environment = Environment::start(plan.network, plan.sizes.clone())?;
    let (setups, notes) = find_setups(plan, &environment)?;
    let mut run = new_run(plan, &environment, &setups, notes)?;
    let cases: Vec<Case> = plan.scenarios.iter().flat_map(|scenario| scenario.cases(&plan.sizes)).collect();
    for round in 1..=plan.sizes.rounds {
        for (number, case) in cases.iter().enumerate() {
            let mut setups: Vec<&Setup> = setups.iter().filter(|setup| case.applies_to(setup.kind)).collect();
            if !setups.is_empty() {
                // So that none is always the first, or always after the same other one.
                let first = (round + number) % setups.len();
                setups.rotate_left(first);
            }
            for setup in setups {
                let measurement = measure(&mut environment, round, *case, setup);
                writeln!(out, "{}", report::line(&measurement))?;
                out.flush()?;
                run.measurements.push(measurement);
            }
            plan.output.save(&run)?;
            let failed = run.measurements.iter().filter(|measurement| measurement.failed.is_some()).count();
            ensure!(failed <= MAX_FAILED, "{failed} measurements have failed");
        }
    }
    plan.output.publish(&run, out)
}

/// Writes page and chart again, from the JSON of an earlier run.
///
/// # Errors
/// When there is none, or a file cannot be written.
pub fn show_again(plan: &Plan, out: &mut impl Write) -> Result<()> {
    plan.output.publish(&plan.output.load::<Run>()?, out)
}

fn find_setups(plan: &Plan, environment: &Environment) -> Result<(Vec<Setup>, Vec<String>)> {
    let (mut setups, notes) = setups::available(&plan.kinds, &plan.proxy_settings)?;
    setups.extend(plan.variants.iter().map(|(name, program)| Setup {
        name: name.clone(),
        kind: SetupKind::PgLeaderProxy,
        program: Some(program.clone()),
        settings: plan.proxy_settings.clone(),
    }));
    for setup in &mut setups {
        if let (SetupKind::LowerBound | SetupKind::PgLeaderProxy, Some(program)) =
            (setup.kind, &mut setup.program)
        {
            *program = environment.sandbox.copy_program(program, &setup.name)?;
        }
    }
    Ok((setups, notes))
}

fn new_run(plan: &Plan, environment: &Environment, setups: &[Setup], notes: Vec<String>) -> Result<Run> {
    let names = |of: &dyn Fn(&Setup) -> bool| {
        setups.iter().filter(|one| of(one)).map(|one| one.name.clone()).collect::<Vec<_>>()
    };
    let mut programs = setups::versions(setups);
    let version = environment.postgres.sql("postgres", "show server_version")?;
    programs.insert("PostgreSQL".to_owned(), version.split(' ').next().unwrap_or_default().to_owned());
    Ok(Run {
        machine: Machine::describe(programs),
        network: plan.network.name().to_owned(),
        sizes: plan.sizes.clone(),
        proxy_settings: plan.proxy_settings.clone(),
        setups: names(&|_| true),
        peers: names(&|one| one.kind.is_peer()),
        measurements: Vec::new(),
        notes,
    })
}

fn measure(environment: &mut Environment, round: usize, case: Case, setup: &Setup) -> Measurement {
    let (figures, failed) = match case.measure(environment, setup) {
        Ok(figures) => (figures, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    Measurement {
        round,
        scenario: case.scenario().name().to_owned(),
        case: case.name(),
        setup: setup.name.clone(),
        figures: figures.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect(),
        failed,
    }
}
