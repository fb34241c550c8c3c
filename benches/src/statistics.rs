//! The median and the extremes of a few figures.

/// Stands for a time that had not ended when the measurement did: longer than any other.
pub(crate) const NEVER: f64 = f64::INFINITY;

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle figure, or the mean of the two in the middle.
    pub(crate) median: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// The number of figures.
    pub(crate) count: usize,
}

/// Median and extremes; `None` when there are no figures.
pub(crate) fn spread(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_unstable_by(f64::total_cmp);
    let count = figures.len();
    let upper = *figures.get(count / 2)?;
    let lower = *figures.get((count - 1) / 2)?;
    let median = f64::midpoint(lower, upper);
    Some(Spread { median, lowest: *figures.first()?, highest: *figures.last()?, count })
}

/// A time with its unit: tenths below 100 ms, whole milliseconds to 10 s, seconds above, or "never".
pub(crate) fn format_ms(ms: f64) -> String {
    match ms {
        NEVER => "never".to_owned(),
        _ if ms.abs() < 99.95 => format!("{ms:.1} ms"),
        _ if ms < 9_999.5 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        let expected = Spread { median: 2.0, lowest: -1.0, highest: 9.0, count: 3 };
        assert_eq!(spread([9.0, -1.0, 2.0]), Some(expected));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(spread([]), None);
    }

    #[test]
    fn a_time_that_never_ended_is_the_longest() {
        let some = spread([NEVER, 1.0, 9.0]).unwrap();
        assert_eq!((some.median, some.highest), (9.0, NEVER));
        assert_eq!(spread([NEVER, 1.0]).unwrap().median, NEVER, "half of them never ended");
    }

    #[test]
    fn times_are_formatted_by_their_size() {
        let shown = [-1.5, 3.12, 99.96, 4321.0, 21_400.0, NEVER].map(format_ms);
        assert_eq!(shown, ["-1.5 ms", "3.1 ms", "100 ms", "4321 ms", "21.4 s", "never"]);
    }
}
