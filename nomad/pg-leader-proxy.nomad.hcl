# The proxy on every database node: clients connect to port 5433 of either and reach the leader, to port 5434 for a replica.
#
#   nomad var put nomad/jobs/pg-leader-proxy probe_password=…
#   nomad job run -var 'etcd_endpoints=["http://10.0.0.1:2379","http://10.0.0.2:2379"]' pg-leader-proxy.nomad.hcl

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "scope" {
  description = "The cluster's name: `scope` in Patroni's configuration."
  type        = string
  default     = "vietmarket"
}

variable "etcd_endpoints" {
  type    = list(string)
  default = ["http://100.83.150.39:2379", "http://100.103.201.10:2379", "http://100.100.5.40:2379"]
}

variable "probe_user" {
  description = "The monitoring user; it needs no more than the right to connect."
  type        = string
  default     = "monitor"
}

variable "write_port" {
  type    = number
  default = 5433
}

variable "read_port" {
  type    = number
  default = 5434
}

variable "admin_port" {
  type    = number
  default = 9433
}

job "pg-leader-proxy" {
  type        = "system"
  datacenters = var.datacenters

  # The nodes that carry the database; the others reach the proxy there.
  constraint {
    attribute = "${meta.stateful}"
    value     = "true"
  }

  # One node after the other, so that a version that does no good is seen on one of them. No client is refused meanwhile,
  # and clients that name both nodes have the other one.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    healthy_deadline = "1m"
    auto_revert      = true
  }

  # There is no service block on purpose: clients know the addresses, and a node that registers services with Nomad itself
  # fails its allocations when its agent comes back before the servers do.
  group "proxy" {
    network {
      port "pg" {
        static = var.write_port
      }
      port "pgro" {
        static = var.read_port
      }
      port "admin" {
        static = var.admin_port
      }
    }

    # A crash costs the open sessions, but no new client: connects wait in the kernel until the next process takes them
    # over, so it should come quickly.
    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    task "proxy" {
      driver = "pg-leader-proxy"

      # What a stop, a restart and an update give to the open sessions. Whoever is connected goes on for so long and is
      # severed then; whoever connects meanwhile waits for the next process, so that this is also the longest wait of a
      # new client, plus what Nomad takes to start it. A longer time is kinder to sessions and harder on new clients.
      kill_timeout = "2s"

      config {
        cluster { scope = var.scope }
        etcd { endpoints = var.etcd_endpoints }
        probe { user = var.probe_user }
        write { port = "pg" }
        read {
          port    = "pgro"
          max_lag = "16MiB"
        }
        admin { port = "admin" }
      }

      # A job may read the variable that is named after it without any policy. A new password restarts the task, which
      # no new client notices.
      template {
        destination = "${NOMAD_SECRETS_DIR}/probe.env"
        env         = true
        data        = <<-EOT
          PGLP_PROBE_PASSWORD={{ with nomadVar "nomad/jobs/pg-leader-proxy" }}{{ .probe_password | toJSON }}{{ end }}
        EOT
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
