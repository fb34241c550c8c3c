//! Select: `pgbench -S -M prepared`, the shortest transaction there is, where the hop weighs most.

use anyhow::Result;

use super::contenders::Contender;
use super::pgbench::{self, Load};
use super::stage::Stage;

/// Transactions per second, their times, and what contender and machine spend on one.
///
/// # Errors
/// When the contender or pgbench fails.
pub fn measure(stage: &Stage, contender: &Contender, clients: usize) -> Result<Vec<(&'static str, f64)>> {
    let mut running = stage.start(contender, clients)?;
    let load = Load { options: &["-S", "-M", "prepared"], clients, sslmode: "disable", times: true };
    let window = pgbench::run(stage, &mut running, &load)?;
    let each = |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / window.transactions;
    let mut figures = vec![
        ("per_second", window.per_second),
        ("machine_us", each(window.machine)),
        ("busy_share", window.busy),
    ];
    figures.extend(quantile(&window.times, 0.5).map(|time| ("p50_us", time)));
    figures.extend(quantile(&window.times, 0.99).map(|time| ("p99_us", time)));
    figures.extend(window.cpu.map(|cpu| ("cpu_us", each(cpu))));
    Ok(figures)
}

/// The time that this share of the times, which are in order, does not exceed.
fn quantile(times: &[f64], share: f64) -> Option<f64> {
    let place = (share * times.len() as f64).ceil() as usize;
    times.get(place.max(1) - 1).copied()
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
