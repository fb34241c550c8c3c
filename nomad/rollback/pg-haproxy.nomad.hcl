# The way back: HAProxy on the same ports, 5433 to the leader and 5434 to a replica. Its ports are the proxy's, so that one goes
# first; `nomad-layout rollback proxy` does both, and the way forth again.
#
#   nomad job stop pg-leader-proxy && sleep 15 &&
#     nomad job run -hcl2-strict=false -var-file ../site.vars.hcl pg-haproxy.nomad.hcl
#
# A system job, unlike the one it replaces: `nodes` then says where it runs, so that one node can be cut over at a time.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "db_nodes" {
  description = "The nodes that carry the database, with their addresses."
  type        = list(object({ node = string, address = string }))
}

variable "nodes" {
  description = "A regular expression on the names of the nodes."
  type        = string
  default     = ".*"
}

variable "write_port" {
  type = number
}

variable "read_port" {
  type = number
}

variable "haproxy_runtime" {
  description = "docker, or raw_exec for a HAProxy that is installed on the node."
  type        = string

  validation {
    condition     = contains(["docker", "raw_exec"], var.haproxy_runtime)
    error_message = "The variable haproxy_runtime is neither docker nor raw_exec."
  }
}

variable "haproxy_image" {
  type = string

  validation {
    condition = var.haproxy_image != "" && (
      regex_replace(var.haproxy_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.haproxy_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.haproxy_image, ":(latest|stable|main|master|edge)$", "") == var.haproxy_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "haproxy_command" {
  type = string
}

variable "haproxy_check" {
  description = "rest asks Patroni on 8008 who leads. tcp is what ran before: any server that listens gets writes, a replica too."
  type        = string

  validation {
    condition     = contains(["rest", "tcp"], var.haproxy_check)
    error_message = "The variable haproxy_check is neither rest nor tcp."
  }
}

locals {
  rest    = var.haproxy_check == "rest"
  servers = [for n in var.db_nodes : "server ${n.node} ${n.address}:5432 maxconn 200 check${local.rest ? " port 8008" : ""}"]
  # HAProxy takes every server for up until it has asked it, so its first clients would write to a replica.
  one_leader = "tcp-request connection reject if { nbsrv(leader) gt 1 }"
}

job "pg-haproxy" {
  type        = "system"
  datacenters = var.datacenters

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  constraint {
    attribute = "${meta.stateful}"
    value     = "true"
  }
  constraint {
    attribute = "${node.unique.name}"
    operator  = "regexp"
    value     = var.nodes
  }

  group "proxy" {
    network {
      port "pg" {
        static = var.write_port
      }
      port "pgro" {
        static = var.read_port
      }
    }

    restart {
      attempts = 10
      interval = "5m"
      delay    = "2s"
      mode     = "delay"
    }

    task "haproxy" {
      driver = var.haproxy_runtime

      template {
        destination = "local/haproxy.cfg"
        data        = <<-EOT
          global
            maxconn 1000
          defaults
            mode tcp
            timeout connect 4s
            timeout client 30m
            timeout server 30m
            default-server inter 2s fall 3 rise 2 on-marked-down shutdown-sessions
          frontend write
            bind {{ env "NOMAD_ADDR_pg" }}
            ${local.rest ? local.one_leader : ""}
            default_backend leader
          frontend read
            bind {{ env "NOMAD_ADDR_pgro" }}
            default_backend replicas
          backend leader
            ${local.rest ? "option httpchk GET /primary" : "option tcp-check"}
            ${join("\n  ", local.servers)}
          backend replicas
            ${local.rest ? "option httpchk GET /replica" : "option tcp-check"}
            ${join("\n  ", local.servers)}
        EOT
      }

      dynamic "config" {
        for_each = var.haproxy_runtime == "docker" ? [1] : []
        content {
          image        = var.haproxy_image
          command      = var.haproxy_command
          args         = ["-W", "-db", "-f", "/local/haproxy.cfg"]
          network_mode = "host"
        }
      }
      dynamic "config" {
        for_each = var.haproxy_runtime == "raw_exec" ? [1] : []
        content {
          command = var.haproxy_command
          args    = ["-W", "-db", "-f", "${NOMAD_TASK_DIR}/haproxy.cfg"]
        }
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
