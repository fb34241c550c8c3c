//! Medians: of times of which some never ended, with the worst; of plain figures, with both ends.

use std::cmp::Ordering;
use std::fmt;

/// A time in milliseconds, or one that had not ended when the watching did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Figure {
    /// Milliseconds.
    Ms(f64),
    /// It had not ended. Longer than any other.
    Never,
}

impl Figure {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Ms(one), Self::Ms(other)) => one.total_cmp(other),
            (Self::Ms(_), Self::Never) => Ordering::Less,
            (Self::Never, Self::Ms(_)) => Ordering::Greater,
            (Self::Never, Self::Never) => Ordering::Equal,
        }
    }

    /// Whether it ended within that many milliseconds.
    #[must_use]
    pub fn within(self, ms: f64) -> bool {
        matches!(self, Self::Ms(value) if value <= ms)
    }
}

impl From<Option<f64>> for Figure {
    fn from(ms: Option<f64>) -> Self {
        ms.map_or(Self::Never, Self::Ms)
    }
}

/// Tenths below 100 ms, whole milliseconds to 10 s, seconds above.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Self::Never => "never".to_owned(),
            Self::Ms(ms) if ms.abs() < 99.95 => format!("{ms:.1} ms"),
            Self::Ms(ms) if ms < 9_999.5 => format!("{ms:.0} ms"),
            Self::Ms(ms) => format!("{:.1} s", ms / 1000.0),
        };
        f.pad(&text)
    }
}

/// Median and worst of several figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: Figure,
    /// The longest.
    pub worst: Figure,
    /// How many there were.
    pub count: usize,
}

/// Median and worst; `None` when there are no figures.
#[must_use]
pub fn spread(mut figures: Vec<Figure>) -> Option<Spread> {
    figures.sort_by(Figure::order);
    let count = figures.len();
    let worst = *figures.last()?;
    let upper = *figures.get(count / 2)?;
    let lower = *figures.get((count - 1) / 2)?;
    let median = match (lower, upper) {
        (Figure::Ms(lower), Figure::Ms(upper)) => Figure::Ms(f64::midpoint(lower, upper)),
        (_, Figure::Never) | (Figure::Never, _) => Figure::Never,
    };
    Some(Spread { median, worst, count })
}

/// Median and ends of plain figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The smallest.
    pub lowest: f64,
    /// The largest.
    pub highest: f64,
}

/// Median and ends; `None` when there are no figures.
#[must_use]
pub fn span(mut figures: Vec<f64>) -> Option<Span> {
    figures.sort_unstable_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(Span { median: f64::midpoint(lower, upper), lowest: *figures.first()?, highest: *figures.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[Option<f64>]) -> Spread {
        spread(values.iter().copied().map(Figure::from).collect()).unwrap()
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(of(&[Some(3.0), Some(1.0), Some(2.0)]).median, Figure::Ms(2.0));
        assert_eq!(of(&[Some(4.0), Some(1.0), Some(2.0), Some(3.0)]).median, Figure::Ms(2.5));
        assert_eq!(of(&[Some(7.0)]), Spread { median: Figure::Ms(7.0), worst: Figure::Ms(7.0), count: 1 });
        assert_eq!(spread(Vec::new()), None);
    }

    #[test]
    fn what_never_ended_is_the_longest() {
        let some = of(&[None, Some(1.0), Some(9.0)]);
        assert_eq!((some.median, some.worst), (Figure::Ms(9.0), Figure::Never));
        assert_eq!(of(&[None, Some(1.0)]).median, Figure::Never, "half of them never ended");
        assert!(!Figure::Never.within(1e9) && Figure::Ms(25.0).within(25.0));
    }

    #[test]
    fn what_came_before_the_poll_saw_it_is_negative_and_kept() {
        assert_eq!(of(&[Some(-1.5), Some(2.0), Some(0.5)]).median, Figure::Ms(0.5));
        assert_eq!(Figure::Ms(-1.5).to_string(), "-1.5 ms");
    }

    #[test]
    fn a_span_has_a_middle_and_two_ends() {
        let known = Span { median: 2.0, lowest: -1.0, highest: 9.0 };
        assert_eq!(span(vec![9.0, -1.0, 2.0]), Some(known));
        assert_eq!(span(vec![3.0, 9.0, -1.0, 1.0]), Some(known));
        assert_eq!(span(Vec::new()), None);
    }

    #[test]
    fn figures_show_what_their_size_deserves() {
        let shown = [3.12, 99.96, 4321.0, 21_400.0].map(|ms| Figure::Ms(ms).to_string());
        assert_eq!(shown, ["3.1 ms", "100 ms", "4321 ms", "21.4 s"]);
    }
}
