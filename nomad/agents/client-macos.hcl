# The Mac mini: a client only, the third etcd member. /opt/homebrew/etc/nomad.d/client.hcl, started by nomad-client.plist.
# The proxy's driver is for Linux only and is not installed here.

data_dir  = "/opt/homebrew/var/nomad"
bind_addr = "0.0.0.0"

advertise {
  http = "100.100.5.40"
  rpc  = "100.100.5.40"
  serf = "100.100.5.40"
}

client {
  enabled = true
  servers = ["100.83.150.39:4647", "100.103.201.10:4647", "100.110.26.124:4647"]

  # macOS numbers its tunnels anew at each start, so the interface is found by its address.
  network_interface = "{{ GetAllInterfaces | include \"network\" \"100.64.0.0/10\" | attr \"name\" }}"

  # No application is placed here, whichever of the two marks a job looks at.
  node_class = "witness"
  meta {
    role    = "witness"
    rl_tier = "secondary"
  }
}

# etcd runs as an ordinary process of a user.
plugin "raw_exec" {
  config {
    enabled = true
  }
}

tls {
  http                   = true
  rpc                    = true
  ca_file                = "/opt/homebrew/etc/nomad.d/tls/nomad-agent-ca.pem"
  cert_file              = "/opt/homebrew/etc/nomad.d/tls/global-client-nomad.pem"
  key_file               = "/opt/homebrew/etc/nomad.d/tls/global-client-nomad-key.pem"
  verify_server_hostname = true
}
