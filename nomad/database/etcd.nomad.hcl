# etcd, Patroni's store: three members, each tied to the node that has its data. Healthy is 3/3 and one leader.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl etcd.nomad.hcl
#
# A member is a group of its own, and Nomad updates groups in parallel: change the image of one member, run the job, wait for
# 3/3 (`nomad-layout gate etcd`), and go on to the next.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where the service is registered: consul or nomad."
  type        = string
}

variable "etcd_members" {
  description = "The members; `node` is the Nomad node's name, `runtime` is docker or raw_exec."
  type = list(object({
    name     = string
    node     = string
    address  = string
    runtime  = string
    image    = string
    command  = string
    data_dir = string
    user     = string
  }))

  validation {
    condition     = length(var.etcd_members) >= 3
    error_message = "The variable etcd_members needs 3 members or more: fewer cannot lose one."
  }
  validation {
    condition     = length(var.etcd_members) % 2 == 1
    error_message = "The variable etcd_members needs an odd number of members: an even one tolerates no more failures and needs a larger quorum."
  }
  validation {
    condition     = length(distinct([for m in var.etcd_members : m.name])) == length(var.etcd_members)
    error_message = "Two members in etcd_members have the same name."
  }
  validation {
    condition     = length(distinct([for m in var.etcd_members : m.address])) == length(var.etcd_members)
    error_message = "Two members in etcd_members have the same address."
  }
  validation {
    condition     = length(distinct([for m in var.etcd_members : m.node])) == length(var.etcd_members)
    error_message = "Two members in etcd_members are on the same node."
  }
  validation {
    condition     = length([for m in var.etcd_members : m if !contains(["docker", "raw_exec"], m.runtime)]) == 0
    error_message = "The runtime of a member in etcd_members is neither docker nor raw_exec."
  }
  validation {
    condition = length([for m in var.etcd_members : m if m.runtime == "docker" && !(m.image != "" && (
      regex_replace(m.image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(m.image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(m.image, ":(latest|stable|main|master|edge)$", "") == m.image
    ))]) == 0
    error_message = "The image of a docker member in etcd_members must carry an immutable tag or a digest."
  }
  validation {
    condition     = length([for m in var.etcd_members : m if m.name == "" || m.address == "" || m.command == "" || m.data_dir == ""]) == 0
    error_message = "A member in etcd_members has no name, address, command or data_dir."
  }
}

variable "etcd_token" {
  description = "Keeps members of different clusters apart while a cluster is formed."
  type        = string
}

variable "etcd_state" {
  description = "new while the cluster is formed, existing when a member is replaced."
  type        = string

  validation {
    condition     = contains(["new", "existing"], var.etcd_state)
    error_message = "The variable etcd_state is neither new nor existing."
  }
}

locals {
  initial_cluster = join(",", [for m in var.etcd_members : "${m.name}=http://${m.address}:2380"])

  # A member listens on its own address and nowhere else: etcd has no password here.
  arguments = {
    for m in var.etcd_members : m.name => [
      "--name=${m.name}",
      "--data-dir=${m.runtime == "docker" ? "/etcd-data" : m.data_dir}",
      "--listen-client-urls=http://${m.address}:2379",
      "--advertise-client-urls=http://${m.address}:2379",
      "--listen-peer-urls=http://${m.address}:2380",
      "--initial-advertise-peer-urls=http://${m.address}:2380",
      "--initial-cluster=${local.initial_cluster}",
      "--initial-cluster-token=${var.etcd_token}",
      "--initial-cluster-state=${var.etcd_state}",
      "--auto-compaction-mode=periodic",
      "--auto-compaction-retention=1h",
      "--quota-backend-bytes=536870912",
    ]
  }
}

job "etcd" {
  type        = "service"
  datacenters = var.datacenters

  update {
    max_parallel      = 1
    min_healthy_time  = "30s"
    healthy_deadline  = "5m"
    progress_deadline = "10m"
    auto_revert       = true
  }

  dynamic "group" {
    for_each = var.etcd_members
    iterator = member
    labels   = [member.value.name]

    content {
      count = 1

      # A member's data does not travel.
      constraint {
        attribute = "${node.unique.name}"
        value     = member.value.node
      }

      network {
        port "client" {
          static = 2379
        }
        port "peer" {
          static = 2380
        }
      }

      restart {
        attempts = 10
        interval = "5m"
        delay    = "5s"
        mode     = "delay"
      }
      reschedule {
        attempts  = 0
        unlimited = false
      }
      # A node that is cut off keeps its member: it goes on when it is back.
      disconnect {
        lost_after = "72h"
        replace    = false
        reconcile  = "keep_original"
      }

      service {
        name     = "etcd"
        provider = var.service_provider
        port     = "client"
        check {
          type     = "http"
          path     = "/health"
          interval = "10s"
          timeout  = "2s"
        }
      }

      task "etcd" {
        driver       = member.value.runtime
        user         = member.value.user
        kill_timeout = "30s"

        dynamic "config" {
          for_each = member.value.runtime == "docker" ? [1] : []
          content {
            image = member.value.image
            # The image has no entrypoint, so the command comes first.
            command      = member.value.command
            args         = local.arguments[member.value.name]
            network_mode = "host"
            volumes      = ["${member.value.data_dir}:/etcd-data"]
          }
        }
        dynamic "config" {
          for_each = member.value.runtime == "raw_exec" ? [1] : []
          content {
            command = member.value.command
            args    = local.arguments[member.value.name]
          }
        }

        resources {
          cpu    = 300
          memory = 768
        }
      }
    }
  }
}
