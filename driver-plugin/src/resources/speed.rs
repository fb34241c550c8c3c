//! How fast a core is, in MHz: Nomad counts processor use in them.

use std::fs;
use std::path::Path;

use nomad_plugin_proto::base::{ClientTopology, ClientTopologyCore};

const SYSFS: &str = "/sys/devices/system/cpu";
const CPUINFO: &str = "/proc/cpuinfo";
const KHZ_PER_MHZ: f64 = 1000.0;

/// MHz of one core, on average: what Nomad itself has found (it sends it since 1.7), else what the host tells. None when
/// nobody knows: a figure in MHz would be an invention.
#[must_use]
pub fn mhz_per_core(topology: Option<&ClientTopology>) -> Option<f64> {
    let known = topology.and_then(of_topology);
    known.or_else(|| of_host(Path::new(SYSFS), &fs::read_to_string(CPUINFO).unwrap_or_default()))
}

/// Nomad's total is that of the cores that are not disabled, unless the operator has set another.
fn of_topology(topology: &ClientTopology) -> Option<f64> {
    let usable = topology.cores.iter().filter(|core| !core.disable);
    let speeds: Vec<u64> = usable.map(speed).collect();
    let total = match topology.override_total_compute {
        0 => speeds.iter().sum(),
        set => set,
    };
    #[expect(clippy::cast_precision_loss, reason = "MHz and cores are far below 2^52")]
    let mhz = (total > 0 && !speeds.is_empty()).then(|| total as f64 / speeds.len() as f64);
    mhz
}

fn speed(core: &ClientTopologyCore) -> u64 {
    let known = [core.base_speed, core.max_speed, core.guess_speed].into_iter().find(|speed| *speed > 0);
    known.unwrap_or(0)
}

fn of_host(sysfs: &Path, cpuinfo: &str) -> Option<f64> {
    let cores = fs::read_dir(sysfs).into_iter().flatten().flatten();
    let in_sysfs: Vec<f64> = cores.filter_map(|core| of_cpufreq(&core.path().join("cpufreq"))).collect();
    mean(&in_sysfs).or_else(|| mean(&of_cpuinfo(cpuinfo)))
}

fn of_cpufreq(cpufreq: &Path) -> Option<f64> {
    // The first is what the core keeps up with all others busy too; not every driver of the kernel tells it.
    let files = ["base_frequency", "cpuinfo_max_freq"];
    let khz = files.iter().find_map(|name| positive(&fs::read_to_string(cpufreq.join(name)).ok()?))?;
    Some(khz / KHZ_PER_MHZ)
}

/// The speed at this moment, which is better than none. Some architectures do not tell it.
fn of_cpuinfo(text: &str) -> Vec<f64> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.filter(|(name, _)| name.trim() == "cpu MHz").filter_map(|(_, value)| positive(value)).collect()
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number| *number > 0.0)
}

fn mean(speeds: &[f64]) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a number of cores")]
    let mean = (!speeds.is_empty()).then(|| speeds.iter().sum::<f64>() / speeds.len() as f64);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(base: u64, max: u64, guess: u64) -> ClientTopologyCore {
        ClientTopologyCore {
            base_speed: base,
            max_speed: max,
            guess_speed: guess,
            ..ClientTopologyCore::default()
        }
    }

    fn topology(cores: Vec<ClientTopologyCore>) -> ClientTopology {
        ClientTopology { cores, ..ClientTopology::default() }
    }

    #[test]
    fn of_a_core_the_base_speed_counts_else_the_greatest_else_the_guess() {
        assert_eq!(of_topology(&topology(vec![core(2600, 3900, 1000); 4])), Some(2600.0));
        assert_eq!(of_topology(&topology(vec![core(0, 3900, 1000); 4])), Some(3900.0));
        assert_eq!(of_topology(&topology(vec![core(0, 0, 1000); 4])), Some(1000.0));
        assert_eq!(of_topology(&topology(vec![core(3000, 0, 0), core(2000, 0, 0)])), Some(2500.0));
    }

    #[test]
    fn disabled_cores_do_not_count_and_the_operators_total_is_shared_by_the_others() {
        let mut off = core(5000, 0, 0);
        off.disable = true;
        let mut some = topology(vec![core(2600, 0, 0), core(2600, 0, 0), off]);
        assert_eq!(of_topology(&some), Some(2600.0));
        some.override_total_compute = 9000;
        assert_eq!(of_topology(&some), Some(4500.0));
    }

    #[test]
    fn a_topology_that_says_nothing_leaves_it_to_the_host() {
        assert_eq!(of_topology(&ClientTopology::default()), None);
        assert_eq!(of_topology(&topology(vec![core(0, 0, 0)])), None);
    }

    #[test]
    fn the_host_tells_the_base_frequency_or_the_greatest_in_khz() {
        let root = tempfile::tempdir().unwrap();
        let write = |core: &str, file: &str, text: &str| {
            let directory = root.path().join(core).join("cpufreq");
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(file), text).unwrap();
        };
        write("cpu0", "cpuinfo_max_freq", "3900000\n");
        write("cpu0", "base_frequency", "2600000\n");
        write("cpu1", "cpuinfo_max_freq", "2800000\n");
        assert_eq!(of_host(root.path(), "cpu MHz : 1.0\n"), Some(2700.0));
    }

    #[test]
    fn without_cpufreq_cpuinfo_tells_and_without_either_nobody() {
        let nowhere = Path::new("/nonexistent");
        let two = "processor\t: 0\ncpu MHz\t\t: 2600.000\n\nprocessor\t: 1\ncpu MHz\t\t: 2400.000\n";
        assert_eq!(of_host(nowhere, two), Some(2500.0));
        let arm = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n";
        assert_eq!(of_host(nowhere, arm), None);
    }
}
