//! The results of a run, as they are stored in `wire.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::environment::Sizes;
use crate::machine::Machine;
use crate::statistics::{Spread, spread};

/// The figures of a measurement by name. The name ends with the unit.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) machine: Machine,
    /// What connects the hosts.
    pub(crate) network: String,
    pub(crate) sizes: Sizes,
    /// Settings of this project's proxy other than the defaults; for experiments.
    pub(crate) proxy_settings: Vec<String>,
    /// The setups' names, in the order in which they are shown.
    pub(crate) setups: Vec<String>,
    /// Those of them that are peers.
    pub(crate) peers: Vec<String>,
    /// In the order in which they were made.
    pub(crate) measurements: Vec<Measurement>,
    /// Why setups did not take part, if any.
    pub(crate) notes: Vec<String>,
}

/// One setup in one case in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Counted from 1.
    pub(crate) round: usize,
    pub(crate) scenario: String,
    pub(crate) case: String,
    pub(crate) setup: String,
    /// The figures by name; none when it failed.
    pub(crate) figures: BTreeMap<String, f64>,
    /// Why it failed.
    pub(crate) failed: Option<String>,
}

/// A figure of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) case: &'a str,
    pub(crate) figure: &'a str,
}

impl Run {
    /// The cases of a scenario, in the order in which they were measured.
    pub(crate) fn cases(&self, scenario: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for measurement in self.measurements.iter().filter(|measurement| measurement.scenario == scenario) {
            if !cases.contains(&&*measurement.case) {
                cases.push(&measurement.case);
            }
        }
        cases
    }

    /// A setup's figure in each round.
    pub(crate) fn values(&self, point: Point<'_>, setup: &str) -> BTreeMap<usize, f64> {
        let of_point = self.measurements.iter().filter(|measurement| {
            measurement.scenario == point.scenario
                && measurement.case == point.case
                && measurement.setup == setup
        });
        of_point.filter_map(|one| Some((one.round, *one.figures.get(point.figure)?))).collect()
    }

    /// Median and extremes of a setup's figure over the rounds.
    pub(crate) fn spread(&self, point: Point<'_>, setup: &str) -> Option<Spread> {
        spread(self.values(point, setup).into_values())
    }

    /// Median and extremes of the ratios of one setup's figure to another's. Each ratio is within a round, because figures
    /// differ more from round to round than from setup to setup.
    pub(crate) fn ratio(&self, point: Point<'_>, setup: &str, to: &str) -> Option<Spread> {
        let others = self.values(point, to);
        let own = self.values(point, setup).into_iter();
        spread(own.filter_map(|(round, value)| Some(value / others.get(&round)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(round: usize, setup: &str, value: f64) -> Measurement {
        Measurement {
            round,
            scenario: "select".to_owned(),
            case: "1 client".to_owned(),
            setup: setup.to_owned(),
            figures: [("x".to_owned(), value)].into(),
            failed: None,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let run = Run {
            machine: Machine::default(),
            network: String::new(),
            sizes: Sizes::quick(),
            proxy_settings: Vec::new(),
            setups: Vec::new(),
            peers: Vec::new(),
            // The machine is twice as fast in the second round, and one setup failed in the third.
            measurements: vec![
                measurement(1, "a", 1.0),
                measurement(1, "b", 2.0),
                measurement(2, "a", 2.0),
                measurement(2, "b", 4.0),
                measurement(3, "a", 9.0),
            ],
            notes: Vec::new(),
        };
        let point = Point { scenario: "select", case: "1 client", figure: "x" };
        let ratio = Spread { median: 0.5, lowest: 0.5, highest: 0.5, count: 2 };
        assert_eq!(run.ratio(point, "a", "b"), Some(ratio));
        assert_eq!(run.spread(point, "a").unwrap().median, 2.0);
        assert_eq!(run.ratio(point, "a", "c"), None);
        assert_eq!(run.cases("select"), ["1 client"]);
    }
}
