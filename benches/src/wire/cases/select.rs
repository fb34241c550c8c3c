//! Select: `pgbench -S -M prepared`, the shortest transactions, which show the cost of the hop most clearly.

use anyhow::Result;

use crate::wire::environment::Environment;
use crate::wire::pgbench::{self, Load};
use crate::wire::results::Figures;
use crate::wire::setups::Setup;

/// Transactions per second, their times, and the processor time of each.
pub(super) fn measure(environment: &Environment, setup: &Setup, clients: usize) -> Result<Figures> {
    let mut running = environment.start_setup(setup, clients)?;
    let load = Load { options: &["-S", "-M", "prepared"], clients, sslmode: "disable", times: true };
    let window = pgbench::run(environment, &mut running, &load)?;
    let mut figures = window.figures();
    figures.extend(quantile(&window.times_us, 0.5).map(|time| ("p50_us", time)));
    figures.extend(quantile(&window.times_us, 0.99).map(|time| ("p99_us", time)));
    Ok(figures)
}

/// The smallest time that this share of the sorted times does not exceed.
fn quantile(times: &[f64], share: f64) -> Option<f64> {
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&times, 0.5), Some(50.0));
        assert_eq!(quantile(&times, 0.99), Some(99.0));
        assert_eq!(quantile(&times[..1], 0.5), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
