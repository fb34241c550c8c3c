//! What a run leaves behind: `wire.json`, from which the tables and the picture are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::case::Figures;
use super::stage::Sizes;
use crate::results::Machine;
use crate::statistics::{Span, span};

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Where and when it was.
    pub machine: Machine,
    /// What lay between the hosts.
    pub network: String,
    /// How much of everything.
    pub sizes: Sizes,
    /// This project's settings that were not at their defaults; none in a run that counts.
    pub proxy_settings: Vec<String>,
    /// The contenders' names, in the order in which they are shown.
    pub contenders: Vec<String>,
    /// Those of them that are peers.
    pub peers: Vec<String>,
    /// The measurements, in the order in which they were made.
    pub measured: Vec<Measured>,
    /// Who did not take part, and why.
    pub notes: Vec<String>,
}

/// One contender in one case in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Counted from 1.
    pub round: usize,
    /// What kind of case.
    pub scenario: String,
    /// Which case.
    pub case: String,
    /// Who.
    pub contender: String,
    /// What was found, by name; none when it failed.
    pub figures: Figures,
    /// Why it failed.
    pub failed: Option<String>,
}

/// A figure of a case, of any contender.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// What kind of case.
    pub scenario: &'a str,
    /// Which case.
    pub case: &'a str,
    /// Which figure.
    pub figure: &'a str,
}

impl Run {
    /// The cases of a kind, in the order in which they were measured.
    #[must_use]
    pub fn cases(&self, scenario: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for measured in self.measured.iter().filter(|measured| measured.scenario == scenario) {
            if !cases.contains(&&*measured.case) {
                cases.push(&measured.case);
            }
        }
        cases
    }

    /// A contender's figure in each round.
    #[must_use]
    pub fn values(&self, point: Point<'_>, contender: &str) -> BTreeMap<usize, f64> {
        let of_point = self.measured.iter().filter(|measured| {
            measured.scenario == point.scenario
                && measured.case == point.case
                && measured.contender == contender
        });
        of_point.filter_map(|measured| Some((measured.round, *measured.figures.get(point.figure)?))).collect()
    }

    /// Median and ends of a contender's figure.
    #[must_use]
    pub fn span(&self, point: Point<'_>, contender: &str) -> Option<Span> {
        span(self.values(point, contender).into_values().collect())
    }

    /// Median and ends of the ratios, round by round, of one contender's figure to another's. Rounds of one run differ
    /// less from contender to contender than from round to round.
    #[must_use]
    pub fn ratio(&self, point: Point<'_>, contender: &str, to: &str) -> Option<Span> {
        let others = self.values(point, to);
        let own = self.values(point, contender).into_iter();
        span(own.filter_map(|(round, value)| Some(value / others.get(&round)?)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(round: usize, contender: &str, value: f64) -> Measured {
        Measured {
            round,
            scenario: "select".to_owned(),
            case: "1 client".to_owned(),
            contender: contender.to_owned(),
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
            contenders: Vec::new(),
            peers: Vec::new(),
            // The machine is twice as fast in the second round, and one contender failed in the third.
            measured: vec![
                measured(1, "a", 1.0),
                measured(1, "b", 2.0),
                measured(2, "a", 2.0),
                measured(2, "b", 4.0),
                measured(3, "a", 9.0),
            ],
            notes: Vec::new(),
        };
        let point = Point { scenario: "select", case: "1 client", figure: "x" };
        assert_eq!(run.ratio(point, "a", "b"), Some(Span { median: 0.5, lowest: 0.5, highest: 0.5 }));
        assert_eq!(run.span(point, "a").unwrap().median, 2.0);
        assert_eq!(run.ratio(point, "a", "c"), None);
        assert_eq!(run.cases("select"), ["1 client"]);
    }
}
