//! The figures of this very process, and the speed of a core.

use std::time::Duration;

use nomad_plugin_proto::base::ClientTopologyCore;

use super::*;

#[test]
fn a_busy_thread_uses_processor_time_and_the_ticks_follow_from_the_percentage() {
    let mut collector = StatsCollector::new(Cgroups::None, std::process::id(), Some(2600.0));
    let start = Instant::now();
    let first = collector.sample_at(start).unwrap().all.cpu.unwrap();
    assert_eq!((first.percent, first.total_ticks), (0.0, 0.0), "there is no interval yet");
    // 100 ms of work of this thread alone, however busy the machine is.
    while rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_nsec < 100_000_000 {}
    let second = collector.sample_at(start + Duration::from_secs(1)).unwrap().all.cpu.unwrap();
    assert!(second.percent >= 5.0, "{second:?}");
    assert!((second.percent - second.user_mode - second.system_mode).abs() < 0.001, "{second:?}");
    assert!((second.total_ticks - second.percent * 26.0).abs() < 0.001, "{second:?}");
    let none = collector.sample_at(start + Duration::from_secs(1)).unwrap().all.cpu.unwrap();
    assert_eq!(none.percent, 0.0, "no time has passed");
}

#[test]
fn only_what_was_measured_is_named() {
    let sample = StatsCollector::new(Cgroups::None, std::process::id(), None).sample().unwrap();
    let (cpu, memory) = (sample.all.cpu.unwrap(), sample.all.memory.unwrap());
    assert_eq!(cpu.measured_fields, [0, 1, 5], "no MHz without the speed of a core");
    assert_eq!(memory.measured_fields, [0, 6], "no usage without a cgroup");
    assert!(memory.rss > 1 << 20, "{memory:?}");
    assert_eq!(sample.by_pid.keys().cloned().collect::<Vec<_>>(), [std::process::id().to_string()]);
}

#[test]
fn another_process_with_the_same_pid_is_not_the_task() {
    let mut collector = StatsCollector::new(Cgroups::None, std::process::id(), None);
    collector.start_time = collector.start_time.map(|start| start + 1);
    assert_eq!(collector.sample(), None);
}

fn core(base_speed: u64, max_speed: u64, guess_speed: u64) -> ClientTopologyCore {
    ClientTopologyCore { base_speed, max_speed, guess_speed, ..ClientTopologyCore::default() }
}

fn topology(cores: Vec<ClientTopologyCore>) -> ClientTopology {
    ClientTopology { cores, ..ClientTopology::default() }
}

#[test]
fn the_speed_of_a_core_is_its_base_speed_else_its_maximum_else_a_guess() {
    assert_eq!(mhz_per_core(&topology(vec![core(2600, 3900, 1000); 4])), Some(2600.0));
    assert_eq!(mhz_per_core(&topology(vec![core(0, 3900, 1000); 4])), Some(3900.0));
    assert_eq!(mhz_per_core(&topology(vec![core(0, 0, 1000); 4])), Some(1000.0));
    assert_eq!(mhz_per_core(&topology(vec![core(3000, 0, 0), core(2000, 0, 0)])), Some(2500.0));
    assert_eq!(mhz_per_core(&topology(vec![core(0, 0, 0)])), None);
    assert_eq!(mhz_per_core(&ClientTopology::default()), None);
}

#[test]
fn disabled_cores_do_not_count_and_a_total_set_by_the_operator_is_divided_by_the_others() {
    let disabled = ClientTopologyCore { disable: true, ..core(5000, 0, 0) };
    let mut some = topology(vec![core(2600, 0, 0), core(2600, 0, 0), disabled]);
    assert_eq!(mhz_per_core(&some), Some(2600.0));
    some.override_total_compute = 9000;
    assert_eq!(mhz_per_core(&some), Some(4500.0));
}
