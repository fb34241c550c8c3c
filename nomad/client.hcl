# What a Nomad client needs to run the driver: a directory with the executable in it, and this block. Put it beside the
# agent's other configuration, for example as /etc/nomad.d/pg-leader-proxy.hcl, and restart the agent; tasks go on meanwhile.

# Absolute, and nothing else executable in it. The agent takes one directory only: leave this out if it has one already.
plugin_dir = "/opt/nomad/plugins"

# The label is the executable's file name; without a block of its own Nomad (from 1.10) does not load it. Jobs say
# `driver = "pg-leader-proxy"`, the name that the plugin tells of itself.
plugin "nomad-driver-pg-leader-proxy" {
  config {
    # Where each task's supervisor has its control socket and writes down how the task ended. It need not survive a boot.
    state_dir = "/run/nomad-driver-pg-leader-proxy"

    # How long the listening sockets of a task that has ended stay open for the next one. Connects wait in them, and are
    # refused afterwards. It must be longer than Nomad takes from the end of a task to the start of the next.
    keep_listening = "10s"
  }
}

client {
  # Which nodes carry the database: the job asks for it.
  meta {
    stateful = "true"
  }

  # A port of the job is opened on the address of this interface. Name the one that clients come by.
  # network_interface = "tailscale0"
}

# Without it Nomad asks no driver for statistics, and `nomad alloc status -stats` stays empty.
telemetry {
  publish_allocation_metrics = true
}
