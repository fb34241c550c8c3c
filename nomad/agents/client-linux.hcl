# What a Linux client of this layout needs beside the agent's own configuration, for example as /etc/nomad.d/layout.hcl. Restart
# the agent afterwards; tasks go on meanwhile, if its unit has KillMode=process, as the packaged one does.
#
# `plugin_dir` is left out on purpose: the agent takes one directory only, by default `plugins` in its data_dir, and another one
# would hide the drivers that are there. Put the executable into the one that the agent has.

# The label is the executable's file name; without a block of its own Nomad (from 1.10) does not load it. Jobs say
# `driver = "pg-leader-proxy"`, the name that the plugin tells of itself.
plugin "nomad-driver-pg-leader-proxy" {
  config {
    # Where each task's supervisor has its control socket and writes down how the task ended. It need not survive a boot. It
    # must belong to root, and nobody else may write there or above it.
    state_dir = "/run/nomad-driver-pg-leader-proxy"

    # How long the listening sockets of a task that has ended stay open for the next one. Connects wait in them, and are
    # refused afterwards. It must be longer than Nomad takes from the end of a task to the start of the next.
    keep_listening = "10s"
  }
}

plugin "docker" {
  config {
    # The database, etcd and the stateful jobs keep their data on the node.
    volumes {
      enabled = true
    }
    # Docker's default capabilities as Nomad grants them, and the two that the tailscale sidecar needs.
    allow_caps = [
      "audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service", "setfcap", "setgid",
      "setpcap", "setuid", "sys_chroot", "net_admin", "net_raw",
    ]
  }
}

# Only where a job's runtime is raw_exec; it lets whoever may submit jobs run anything as root.
# plugin "raw_exec" {
#   config {
#     enabled = true
#   }
# }

client {
  enabled = true

  # A clean stop of PostgreSQL takes longer than the 30 s that a client allows by default.
  max_kill_timeout = "5m"

  # A port of a job is opened on the address of this interface: the private network's.
  network_interface = "tailscale0"

  # `witness` keeps the applications away.
  # node_class = "witness"

  # Or without a restart: `nomad-layout meta`, which reads this from site.vars.hcl.
  meta {
    stateful      = "true"
    egress_worker = "true"
    role          = "primary"
  }
}

# Without it Nomad asks no driver for statistics, and `nomad alloc status -stats` stays empty.
telemetry {
  publish_allocation_metrics = true
}
