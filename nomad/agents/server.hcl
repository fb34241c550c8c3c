# A server of this layout, beside the client's file where a node is both: Optiplex, EPYC, and Vultr, which is a server only.

data_dir  = "/opt/nomad/data"
bind_addr = "0.0.0.0"

# The address on the private network, of this node.
advertise {
  http = "{{ GetInterfaceIP \"tailscale0\" }}"
  rpc  = "{{ GetInterfaceIP \"tailscale0\" }}"
  serf = "{{ GetInterfaceIP \"tailscale0\" }}"
}

server {
  enabled          = true
  bootstrap_expect = 3
  # The gossip key is a secret: `nomad operator gossip keyring generate`, in a file of its own beside this one, mode 0600:
  #   server { encrypt = "…" }
  server_join {
    retry_join = ["100.83.150.39", "100.103.201.10", "100.110.26.124"]
  }
}

# nomad acl bootstrap, once. Jobs read only their own variables; see policies/.
acl {
  enabled = true
}

# nomad tls ca create; nomad tls cert create -server / -client / -cli.
tls {
  http                   = true
  rpc                    = true
  ca_file                = "/etc/nomad.d/tls/nomad-agent-ca.pem"
  cert_file              = "/etc/nomad.d/tls/global-server-nomad.pem"
  key_file               = "/etc/nomad.d/tls/global-server-nomad-key.pem"
  verify_server_hostname = true
  verify_https_client    = true
}

# The local agent of Consul. Without Consul leave this out and set service_provider = "nomad" in site.vars.hcl.
consul {
  address = "127.0.0.1:8500"
}
