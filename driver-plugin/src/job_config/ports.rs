//! The addresses that Nomad assigned to port labels.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nomad_plugin_proto::driver::{NetworkResource, PortMapping, Resources};

/// The address of the port with that label. `to`, the port inside a network namespace, does not apply: tasks use the
/// host's network.
pub(super) fn address(label: &str, resources: Option<&Resources>) -> Result<SocketAddr, String> {
    let ports = resources.map_or_else(Vec::new, all);
    let Some(port) = ports.iter().find(|port| port.label == label) else {
        return Err(unknown(&ports));
    };
    let ip = match port.ip {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ip => ip
            .parse()
            .map_err(|_| format!("Nomad assigned the address {ip:?}, which is not an IP address"))?,
    };
    match u16::try_from(port.value) {
        Ok(value) if value > 0 => Ok(SocketAddr::new(ip, value)),
        _ => Err(format!("Nomad assigned the invalid port {}", port.value)),
    }
}

struct Port<'a> {
    label: &'a str,
    ip: &'a str,
    value: i32,
}

/// The ports of the group or, in jobs of the older form, of the task.
fn all(resources: &Resources) -> Vec<Port<'_>> {
    if resources.ports.is_empty() {
        let networks = resources.allocated_resources.iter().flat_map(|allocated| &allocated.networks);
        return networks.flat_map(of_task).collect();
    }
    resources.ports.iter().map(of_group).collect()
}

fn of_group(port: &PortMapping) -> Port<'_> {
    Port { label: &port.label, ip: &port.host_ip, value: port.value }
}

fn of_task(network: &NetworkResource) -> impl Iterator<Item = Port<'_>> {
    let ports = network.reserved_ports.iter().chain(&network.dynamic_ports);
    ports.map(|port| Port { label: &port.label, ip: &network.ip, value: port.value })
}

fn unknown(ports: &[Port<'_>]) -> String {
    let labels: Vec<String> = ports.iter().map(|port| format!("{:?}", port.label)).collect();
    match labels.split_last() {
        None => "there is no port with this label: the group has no `network` block with a `port`".to_owned(),
        Some((only, [])) => format!("there is no port with this label; the group's network has {only}"),
        Some((last, others)) => {
            format!(
                "there is no port with this label; the group's network has {} and {last}",
                others.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use nomad_plugin_proto::driver::{AllocatedTaskResources, NetworkPort};

    use super::*;

    fn group(label: &str, value: i32, to: i32, host_ip: &str) -> Resources {
        let port = PortMapping { label: label.into(), value, to, host_ip: host_ip.into() };
        Resources { ports: vec![port], ..Resources::default() }
    }

    #[test]
    fn the_port_of_the_host_is_used_and_a_missing_address_means_every_address() {
        assert_eq!(address("a", Some(&group("a", 5, 0, ""))), Ok("0.0.0.0:5".parse().unwrap()));
        assert_eq!(address("a", Some(&group("a", 5, 7, "fd00::1"))), Ok("[fd00::1]:5".parse().unwrap()));
    }

    #[test]
    fn the_older_form_is_used_where_there_is_no_other() {
        let port = |label: &str, value| NetworkPort { label: label.into(), value };
        let network = NetworkResource {
            ip: "10.0.0.1".into(),
            reserved_ports: vec![port("static", 5433)],
            dynamic_ports: vec![port("dynamic", 20_001)],
            ..NetworkResource::default()
        };
        let allocated = AllocatedTaskResources { networks: vec![network], ..Default::default() };
        let resources = Resources { allocated_resources: Some(allocated), ..Default::default() };
        assert_eq!(address("static", Some(&resources)), Ok("10.0.0.1:5433".parse().unwrap()));
        assert_eq!(address("dynamic", Some(&resources)), Ok("10.0.0.1:20001".parse().unwrap()));
    }

    #[test]
    fn unknown_labels_and_invalid_ports_are_errors() {
        assert!(address("a", None).unwrap_err().contains("no `network` block"));
        assert!(address("b", Some(&group("a", 5, 0, ""))).unwrap_err().ends_with("has \"a\""));
        assert!(address("a", Some(&group("a", 0, 0, ""))).unwrap_err().contains("invalid port 0"));
        assert!(address("a", Some(&group("a", 70_000, 0, ""))).unwrap_err().contains("70000"));
        assert!(address("a", Some(&group("a", 5, 0, "host"))).unwrap_err().contains("\"host\""));
    }
}
