# The proxy on every database node: clients connect to port 5433 of either and reach the leader, to port 5434 for a replica.
#
#   nomad var put nomad/jobs/pg-leader-proxy probe_password=…
#   nomad job run -var scope=main -var 'etcd_endpoints=["http://10.0.0.1:2379","http://10.0.0.2:2379"]' pg-leader-proxy.nomad.hcl
#
# The layout of this folder: nomad job run -hcl2-strict=false -var-file site.vars.hcl pg-leader-proxy.nomad.hcl

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "scope" {
  description = "The cluster's name: `scope` in Patroni's configuration."
  type        = string

  validation {
    condition     = var.scope != ""
    error_message = "The variable scope is empty."
  }
}

variable "etcd_endpoints" {
  description = "Patroni's etcd: http://ADDRESS:PORT of each member."
  type        = list(string)

  validation {
    condition     = length(var.etcd_endpoints) > 0
    error_message = "The variable etcd_endpoints is empty."
  }
}

variable "job_name" {
  description = "The job's name, and of its variable nomad/jobs/NAME: another one for a rehearsal beside the present service."
  type        = string
  default     = "pg-leader-proxy"
}

variable "nodes" {
  description = "A regular expression on the names of the nodes: all that carry the database, or one of them while cutting over."
  type        = string
  default     = ".*"
}

variable "service_name" {
  description = "Registers the write port as a service, for clients that look it up. Empty: clients know the addresses."
  type        = string
  default     = ""
}

variable "service_provider" {
  description = "Where the service is registered: consul or nomad."
  type        = string
  default     = "consul"
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
  id          = var.job_name
  name        = var.job_name
  type        = "system"
  datacenters = var.datacenters

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }

  # The nodes that carry the database; the others reach the proxy there.
  constraint {
    attribute = "${meta.stateful}"
    value     = "true"
  }
  constraint {
    attribute = "${node.unique.name}"
    operator  = "regexp"
    value     = var.nodes
  }

  # One node after the other, so that a version that does no good is seen on one of them. No client is refused meanwhile,
  # and clients that name both nodes have the other one. Nomad has deployments of system jobs from 1.11 on: before it, of all
  # this only max_parallel counts, a bad version reaches both nodes, and `nomad job revert` is by hand.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    healthy_deadline = "1m"
    auto_revert      = true
  }

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

    # Clients know the addresses, so there is no service unless it is asked for. With the provider `nomad`, a node whose agent
    # comes back before the servers do fails its allocations.
    dynamic "service" {
      for_each = var.service_name == "" ? [] : [var.service_name]
      content {
        name     = service.value
        provider = var.service_provider
        port     = "pg"
        check {
          type     = "http"
          port     = "admin"
          path     = "/ready"
          interval = "5s"
          timeout  = "2s"
        }
      }
    }

    # A process that crashes is started again by its supervisor within moments, five times in five minutes; Nomad counts no
    # restart. After that, and for every other exit, this block decides. Connects wait in the kernel for keep_listening (10 s),
    # until the next process takes them over. Nomad's default delay, 15 s, would be longer than that.
    restart {
      attempts = 10
      interval = "5m"
      delay    = "1s"
      mode     = "delay"
    }

    task "proxy" {
      driver = "pg-leader-proxy"

      # What a stop, a restart and an update give to the open sessions. Whoever is connected goes on for so long and is
      # terminated then; clients that connect meanwhile wait for the next process, so that this is also the longest wait of a
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
      # no new client notices. Without error_on_missing_key a missing key would become the password "null".
      template {
        destination          = "${NOMAD_SECRETS_DIR}/probe.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          PGLP_PROBE_PASSWORD={{ with nomadVar "nomad/jobs/${var.job_name}" }}{{ .probe_password | toJSON }}{{ end }}
        EOT
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
