//! Sessions and held clients over the last minutes, and how they are drawn.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use pg_leader_proxy_core::Moment;

use crate::admin::answers::ms;
use crate::counters::Counters;
use crate::route::RouteKind;

/// How many samples are kept: five minutes of one a second.
const SAMPLES: usize = 301;
/// The time that a chart shows.
const SHOWN: Duration = Duration::from_secs(300);
/// The size of a chart in its own units. Its width on the page is another matter.
const WIDTH: u64 = 3000;
const HEIGHT: u64 = 400;
/// Space above the highest value, so that the line is not cut off.
const HEADROOM: u64 = 20;

/// What was counted at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    at: Moment,
    open: u64,
    held: u64,
    waited: u64,
}

impl Sample {
    /// A sample of both routes.
    pub(super) fn of(counters: &Counters, at: Moment) -> Self {
        let routes = RouteKind::ALL.map(|kind| counters.route(kind));
        Self {
            at,
            open: routes.iter().map(|route| route.open.value()).sum(),
            held: routes.iter().map(|route| route.held.value()).sum(),
            waited: routes.iter().map(|route| route.waited.value()).sum(),
        }
    }

    const fn served(&self) -> u64 {
        self.open.saturating_sub(self.held)
    }

    /// The clients that were held at some time since the sample before, which catches waits shorter than a second.
    const fn held_since(&self, before: &Self) -> u64 {
        before.held + self.waited.saturating_sub(before.waited)
    }
}

/// The samples of the last minutes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

/// A chart of one number.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) class: &'static str,
    pub(super) now: u64,
    pub(super) highest: u64,
    /// The points of its line, and the same closed to an area.
    pub(super) line: String,
    pub(super) area: String,
}

impl History {
    /// Adds a sample and forgets the oldest one.
    pub(super) fn add(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Open sessions without the held clients, and the held clients.
    pub(super) fn charts(&self, now: Moment) -> [Chart; 2] {
        let served = self.0.iter().map(|sample| (sample.at, sample.served()));
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let held = pairs.map(|(before, sample)| (sample.at, sample.held_since(before)));
        [
            chart(("Open sessions without held clients", "served"), served, now),
            chart(("Held clients", "held"), held, now),
        ]
    }
}

fn chart(
    (title, class): (&'static str, &'static str),
    values: impl Iterator<Item = (Moment, u64)>,
    now: Moment,
) -> Chart {
    let values: Vec<(u64, u64)> =
        values.filter_map(|(at, value)| Some((position(now.since(at))?, value))).collect();
    let highest = values.iter().map(|(_, value)| *value).max().unwrap_or_default();
    let mut line = String::new();
    for (x, value) in &values {
        let up = value * (HEIGHT - HEADROOM) / highest.max(1);
        // Writing to a string cannot fail.
        let _ = write!(line, "{x},{} ", HEIGHT - up);
    }
    let ends = values.first().zip(values.last());
    let area = ends.map_or_else(String::new, |((first, _), (last, _))| {
        format!("{first},{HEIGHT} {line}{last},{HEIGHT}")
    });
    let now = values.last().map_or(0, |(_, value)| *value);
    Chart { title, class, now, highest, line, area }
}

/// Where in a chart something of this age is, if it is not too old.
pub(super) fn position(age: Duration) -> Option<u64> {
    let (age, shown) = (ms(age), ms(SHOWN));
    (age <= shown).then(|| WIDTH - WIDTH * age / shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, [open, held, waited]: [u64; 3]) -> Sample {
        Sample { at: Moment::from_boot(Duration::from_secs(second)), open, held, waited }
    }

    fn at(second: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(second))
    }

    #[test]
    fn a_chart_ends_at_the_right_and_its_highest_value_reaches_the_top() {
        let mut history = History::default();
        [sample(700, [5, 0, 0]), sample(850, [10, 0, 0]), sample(1000, [0, 0, 0])]
            .into_iter()
            .for_each(|sample| history.add(sample));
        let [served, held] = history.charts(at(1000));
        assert_eq!((served.now, served.highest), (0, 10));
        assert_eq!(served.line, "0,210 1500,20 3000,400 ");
        assert_eq!(served.area, "0,400 0,210 1500,20 3000,400 3000,400");
        assert_eq!((held.now, held.highest, held.line.as_str()), (0, 0, "1500,400 3000,400 "));
    }

    #[test]
    fn a_client_that_was_held_between_two_samples_is_drawn() {
        let mut history = History::default();
        [sample(1, [8, 0, 3]), sample(2, [8, 0, 7]), sample(3, [8, 2, 9]), sample(4, [8, 0, 9])]
            .into_iter()
            .for_each(|sample| history.add(sample));
        let [served, held] = history.charts(at(4));
        assert_eq!((held.highest, held.now), (4, 2));
        assert_eq!((served.highest, served.now), (8, 8));
    }

    #[test]
    fn old_samples_are_forgotten_and_nothing_is_drawn_of_none() {
        let mut history = History::default();
        assert!(history.charts(at(1)).iter().all(|chart| chart.line.is_empty() && chart.area.is_empty()));
        (0..1000).for_each(|second| history.add(sample(second, [second, 0, 0])));
        assert_eq!(history.0.len(), SAMPLES);
        // After a suspension all of them are too old.
        assert!(history.charts(at(5000))[0].line.is_empty());
        assert_eq!((position(SHOWN), position(SHOWN + Duration::from_millis(1))), (Some(0), None));
    }
}
