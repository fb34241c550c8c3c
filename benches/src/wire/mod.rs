//! The wire: what each way to a server costs while nothing fails, as whole processes, beside the peers in one run.
//!
//! A run sets the [`stage`] (three [`hosts`], a real [`postgres`]), and goes through its [`case`]s in rounds, each with
//! every one of the [`contenders`], who is started for it alone. What they did and spent is kept as [`record`] and told by
//! [`report`], [`aims`] and [`plot`].

pub mod aims;
pub mod balance;
pub mod case;
pub mod connect;
pub mod contenders;
pub mod copy;
pub mod crowd;
pub mod hold;
pub mod hosts;
pub mod memory;
pub mod meter;
pub mod peers;
pub mod pgbench;
pub mod plot;
pub mod postgres;
pub mod programs;
pub mod protocol;
pub mod record;
pub mod report;
pub mod select;
pub mod sever;
pub mod stage;
pub mod standin;
pub mod workshop;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use self::case::{Case, Scenario};
use self::contenders::{Contender, Kind};
use self::hosts::Network;
use self::record::{Measured, Run};
use self::stage::{Sizes, Stage};
use crate::machine;
use crate::output::Output;

/// So many measurements may fail before the run is given up.
const FAILURES: usize = 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which kinds of cases.
    pub scenarios: Vec<Scenario>,
    /// Who takes part.
    pub kinds: Vec<Kind>,
    /// Other builds of this project's proxy that take part too, by name.
    pub variants: Vec<(String, PathBuf)>,
    /// How much of everything.
    pub sizes: Sizes,
    /// What lies between the hosts.
    pub network: Network,
    /// Where the results go.
    pub output: Output,
    /// Settings of this project's proxy, `key=value`, for experiments.
    pub proxy_settings: Vec<String>,
}

/// Runs it, tells it as it goes, and leaves the results. They are written after every case, so that a run that breaks off
/// leaves what it had. To be called on the main thread, with which all programs end.
///
/// # Errors
/// When the stage cannot be set, when many measurements fail, or a file cannot be written.
pub fn run(plan: &Plan, out: &mut impl Write) -> Result<Run> {
    writeln!(out, "Setting the stage …")?;
    out.flush()?;
    let mut stage = Stage::set(plan.network, plan.sizes.clone())?;
    let (contenders, notes) = contenders(plan, &stage)?;
    let mut run = begin(plan, &stage, &contenders, notes)?;
    let cases: Vec<Case> = plan.scenarios.iter().flat_map(|scenario| scenario.cases(&plan.sizes)).collect();
    for round in 1..=plan.sizes.rounds {
        for (number, case) in cases.iter().enumerate() {
            let mut taking_part: Vec<&Contender> =
                contenders.iter().filter(|contender| case.takes(contender.kind)).collect();
            if !taking_part.is_empty() {
                // Nobody is always the first, or always after the same one's heat.
                let first = (round + number) % taking_part.len();
                taking_part.rotate_left(first);
            }
            for contender in taking_part {
                let measured = measure(&mut stage, round, *case, contender);
                writeln!(out, "{}", report::line(&measured))?;
                out.flush()?;
                run.measured.push(measured);
            }
            plan.output.save(&run)?;
            let failed = run.measured.iter().filter(|measured| measured.failed.is_some()).count();
            ensure!(failed <= FAILURES, "{failed} measurements have failed");
        }
    }
    show(&run, plan)?;
    writeln!(out, "\n{}", report::text(&run))?;
    Ok(run)
}

/// Makes tables, page and picture anew from the JSON of an earlier run.
///
/// # Errors
/// When there is none, or a file cannot be written.
pub fn show_again(plan: &Plan, out: &mut impl Write) -> Result<()> {
    let run: Run = plan.output.load()?;
    show(&run, plan)?;
    writeln!(out, "{}", report::text(&run))?;
    Ok(())
}

fn contenders(plan: &Plan, stage: &Stage) -> Result<(Vec<Contender>, Vec<String>)> {
    let (mut found, notes) = contenders::available(&plan.kinds, &plan.proxy_settings)?;
    for (name, program) in &plan.variants {
        found.push(Contender {
            name: name.clone(),
            kind: Kind::PgLeaderProxy,
            program: Some(program.clone()),
            settings: plan.proxy_settings.clone(),
        });
    }
    for contender in &mut found {
        if let (Kind::Floor | Kind::PgLeaderProxy, Some(program)) = (contender.kind, &mut contender.program) {
            *program = stage.workshop.adopt(program, &contender.name)?;
        }
    }
    Ok((found, notes))
}

fn begin(plan: &Plan, stage: &Stage, contenders: &[Contender], notes: Vec<String>) -> Result<Run> {
    let names = |of: &dyn Fn(&Contender) -> bool| {
        contenders.iter().filter(|one| of(one)).map(|one| one.name.clone()).collect::<Vec<_>>()
    };
    let mut programs = programs::versions(contenders);
    let version = stage.postgres.sql("postgres", "show server_version")?;
    programs.insert("PostgreSQL".to_owned(), version.split(' ').next().unwrap_or_default().to_owned());
    programs.insert("rustc".to_owned(), machine::rustc());
    Ok(Run {
        machine: machine::with_programs(programs),
        network: plan.network.name().to_owned(),
        sizes: plan.sizes.clone(),
        proxy_settings: plan.proxy_settings.clone(),
        contenders: names(&|_| true),
        peers: names(&|one| one.kind.is_peer()),
        measured: Vec::new(),
        notes,
    })
}

fn measure(stage: &mut Stage, round: usize, case: Case, contender: &Contender) -> Measured {
    let (figures, failed) = match case.measure(stage, contender) {
        Ok(figures) => (figures, None),
        Err(error) => (case::Figures::new(), Some(format!("{error:#}"))),
    };
    Measured {
        round,
        scenario: case.scenario().name().to_owned(),
        case: case.name(),
        contender: contender.name.clone(),
        figures,
        failed,
    }
}

fn show(run: &Run, plan: &Plan) -> Result<()> {
    plot::draw(run, &plan.output.picture())?;
    plan.output.show(&report::markdown(run))
}
