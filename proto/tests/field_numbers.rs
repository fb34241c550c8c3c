//! Field numbers that are easy to get wrong, compared with encoded bytes.

use std::time::SystemTime;

use nomad_plugin_proto::base::NomadDriverConfig;
use nomad_plugin_proto::driver::{
    AllocatedMemoryResources, AllocatedTaskResources, CpuUsage, DriverCapabilities, DriverTaskEvent,
    LinuxResources, MemoryUsage, NetworkResource, TaskHandle, cpu_usage, driver_capabilities, memory_usage,
};
use nomad_plugin_proto::hclspec::Spec;
use prost::Message;

fn bytes(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[test]
fn linux_resources_skip_number_7() {
    let resources = LinuxResources {
        cpuset_cpus: "2".into(),
        percent_ticks: 0.5,
        cpuset_cgroup: "/c".into(),
        ..LinuxResources::default()
    };
    let golden = [&[0x32, 1, b'2'][..], &[0x41, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f], &[0x4a, 2, b'/', b'c']];
    assert_eq!(bytes(&resources), golden.concat());
}

#[test]
fn the_measured_fields_of_memory_precede_usage_and_swap() {
    let memory = MemoryUsage {
        rss: 1,
        measured_fields: vec![memory_usage::Fields::Usage.into(), memory_usage::Fields::Swap.into()],
        usage: 7,
        swap: 8,
        ..MemoryUsage::default()
    };
    assert_eq!(bytes(&memory), [0x08, 1, 0x32, 2, 5, 6, 0x38, 7, 0x40, 8]);
}

#[test]
fn the_measured_fields_of_the_processor_are_last() {
    let cpu = CpuUsage {
        throttled_time: 5,
        measured_fields: vec![cpu_usage::Fields::Percent.into()],
        ..CpuUsage::default()
    };
    assert_eq!(bytes(&cpu), [0x28, 5, 0x3a, 1, 5]);
}

#[test]
fn networks_of_a_task_have_number_5() {
    let resources = AllocatedTaskResources {
        networks: vec![NetworkResource { ip: "i".into(), ..NetworkResource::default() }],
        ..AllocatedTaskResources::default()
    };
    assert_eq!(bytes(&resources), [0x2a, 3, 0x1a, 1, b'i']);
}

#[test]
fn memory_of_a_task_begins_with_number_2() {
    assert_eq!(bytes(&AllocatedMemoryResources { memory_mb: 2, memory_max_mb: 3 }), [0x10, 2, 0x18, 3]);
}

#[test]
fn the_maximum_port_precedes_the_minimum() {
    let config = NomadDriverConfig { client_max_port: 2, client_min_port: 1, topology: None };
    assert_eq!(bytes(&config), [0x08, 2, 0x10, 1]);
}

#[test]
fn capabilities_skip_number_7() {
    let capabilities = DriverCapabilities {
        mount_configs: driver_capabilities::MountConfigs::NoMounts.into(),
        disable_log_collection: true,
        dynamic_workload_users: true,
        ..DriverCapabilities::default()
    };
    assert_eq!(bytes(&capabilities), [0x30, 1, 0x40, 1, 0x48, 1]);
}

#[test]
fn a_handle_and_an_event_have_all_fields() {
    let handle = TaskHandle::running(std::num::NonZeroU16::MIN, Default::default(), vec![9]);
    assert_eq!(bytes(&handle), [0x08, 1, 0x12, 0, 0x18, 1, 0x22, 1, 9]);
    let event = DriverTaskEvent::new("i".into(), "a".into(), "n".into(), SystemTime::UNIX_EPOCH, "m".into());
    let golden = [&[0x0a, 1, b'i', 0x12, 1, b'a', 0x1a, 1, b'n'][..], &[0x22, 0, 0x2a, 1, b'm']];
    assert_eq!(bytes(&event), golden.concat());
}

#[test]
fn a_schema_is_nested_as_the_host_expects() {
    let schema = Spec::object([("a".to_owned(), Spec::attr("a", "bool"))]);
    let attr = [0x1a, 9, 0x0a, 1, b'a', 0x12, 4, b'b', b'o', b'o', b'l'];
    let entry = [&[0x0a, 1, b'a', 0x12, 11][..], &attr].concat();
    let object = [&[0x0a, 16][..], &entry].concat();
    assert_eq!(bytes(&schema), [&[0x0a, 18][..], &object].concat());
}
