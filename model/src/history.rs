//! Histories: what happened in a world and when, and how a history that breaks a law is told as a scenario.

use std::fmt::Write;

use pg_leader_proxy_core::PolicyError;

use crate::broken::Broken;
use crate::disturbance::Disturbance;
use crate::script::scenario_text;
use crate::setup::{RECOVERY_ROUNDS, Setup};
use crate::world::World;

/// What happened: after so many rounds each, these disturbances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(pub(crate) Vec<(u16, Disturbance)>);

impl History {
    /// This history, with one more disturbance after so many rounds.
    pub(crate) fn then(&self, rounds: u16, disturbance: Disturbance) -> Self {
        Self(self.0.iter().copied().chain([(rounds, disturbance)]).collect())
    }

    /// Lives through it in `world`.
    ///
    /// # Errors
    /// The law that is broken on the way.
    pub(crate) fn live(&self, world: &mut World) -> Result<(), Broken> {
        for (rounds, disturbance) in &self.0 {
            (0..*rounds).try_for_each(|_| world.round())?;
            world.disturb(*disturbance);
            world.judge()?;
        }
        Ok(())
    }
}

/// A history that breaks a law.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The world that it happens in.
    pub setup: Setup,
    /// What happens.
    pub history: History,
    /// How many rounds pass afterwards until the law is broken.
    pub rounds: u16,
    /// Whether the law is about what follows when all faults have ended.
    pub recovering: bool,
    /// The law.
    pub broken: Broken,
}

impl Counterexample {
    /// The history as a file of `proxy/core/scenarios`: a comment that tells what happens, and what the router was told.
    ///
    /// # Errors
    /// [`PolicyError`] when the setup's policy contradicts itself.
    pub fn scenario(&self) -> Result<String, PolicyError> {
        let (world, tale) = self.relive()?;
        let told = world.proxies[self.broken.proxy].recording.0.as_deref().unwrap_or_default();
        Ok(scenario_text(&tale, told))
    }

    /// Lives through it once more, recording what the routers are told. That a law is broken on the way is known.
    fn relive(&self) -> Result<(World, String), PolicyError> {
        let mut world = World::new(self.setup)?;
        let mut tale = format!("Law {} is broken: {}.\n", self.broken.law, self.broken.why);
        let _ = world.warm_up();
        for (rounds, disturbance) in &self.history.0 {
            let _ = (0..*rounds).try_for_each(|_| world.round());
            let _ = writeln!(tale, "{}s: {disturbance}", world.now.since_boot().as_secs());
            world.disturb(*disturbance);
        }
        let _ = (0..self.rounds).try_for_each(|_| world.round());
        if self.recovering {
            let _ = writeln!(tale, "{}s: all faults end", world.now.since_boot().as_secs());
            world.heal();
            let _ = (0..RECOVERY_ROUNDS).try_for_each(|_| world.round());
        }
        let _ = write!(tale, "{}s: the law is broken", world.now.since_boot().as_secs());
        Ok((world, tale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{parse, play};
    use crate::setup::SETUPS;

    /// Law 4, and that a counterexample says what happened.
    #[test]
    fn a_scenario_leads_a_new_router_to_the_same_routing() {
        for setup in SETUPS {
            for disturbance in Disturbance::all(&setup) {
                let history = History(vec![(1, disturbance)]);
                let broken = Broken { law: 0, proxy: 0, why: "for a test".to_owned() };
                let told = Counterexample { setup, history, rounds: 6, recovering: true, broken };
                let text = told.scenario().unwrap();
                let replayed = play(&parse("told", &text).unwrap().steps()).router;
                let (world, _) = told.relive().unwrap();
                let lived = &world.proxies[0].router;
                assert_eq!(replayed.routing(), lived.routing(), "{text}");
                assert_eq!(replayed.valid_until(), lived.valid_until(), "{text}");
            }
        }
    }
}
