# PostgreSQL with TimescaleDB under Patroni: two members on the two nodes that carry `meta.stateful`. Healthy is 2/2, one
# primary, one replica, one system identifier.
#
#   nomad var put @../variables/timescaledb-ha.nv.hcl
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl timescaledb-ha.nomad.hcl

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where the service is registered: consul or nomad."
  type        = string
}

variable "scope" {
  description = "The cluster's name in etcd."
  type        = string
}

variable "etcd_endpoints" {
  type = list(string)

  validation {
    condition     = length(var.etcd_endpoints) > 0
    error_message = "The variable etcd_endpoints is empty."
  }
  validation {
    condition     = length([for e in var.etcd_endpoints : e if regex_replace(e, "^http://[^/:]+:[0-9]+$", "") != ""]) == 0
    error_message = "An endpoint in etcd_endpoints is not of the form http://ADDRESS:PORT."
  }
}

variable "db_nodes" {
  description = "The Nomad nodes that carry the database, with their addresses: replication is allowed among them."
  type        = list(object({ node = string, address = string }))

  validation {
    condition     = length(var.db_nodes) == 2
    error_message = "The variable db_nodes names two nodes: a primary and a replica."
  }
  validation {
    condition     = length(distinct([for n in var.db_nodes : n.address])) == length(var.db_nodes)
    error_message = "Two nodes in db_nodes have the same address."
  }
}

variable "db_client_networks" {
  description = "Networks in CIDR form from which clients log in by password; the proxies' own addresses among them."
  type        = list(string)
}

variable "db_runtime" {
  description = "docker, or raw_exec for a PostgreSQL and a Patroni that are installed on the node."
  type        = string

  validation {
    condition     = contains(["docker", "raw_exec"], var.db_runtime)
    error_message = "The variable db_runtime is neither docker nor raw_exec."
  }
}

variable "db_image" {
  description = "timescale/timescaledb-ha of the major of the existing data. Even its full tags are overwritten: use a digest."
  type        = string

  validation {
    condition = var.db_image != "" && (
      regex_replace(var.db_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.db_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.db_image, ":(latest|stable|main|master|edge)$", "") == var.db_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "db_bin_dir" {
  description = "PostgreSQL's programs, of one major: /usr/lib/postgresql/16/bin."
  type        = string
}

variable "db_data_dir" {
  description = "The directory on the node; PostgreSQL's own is `data` below it, because Patroni moves that aside."
  type        = string
}

variable "db_patroni" {
  description = "Patroni's command, in the image or on the node."
  type        = string
}

variable "db_user" {
  description = "Who PostgreSQL runs as; empty for the image's own user."
  type        = string
}

variable "synchronous_mode" {
  description = "Patroni's synchronous_mode when the cluster is made; later `patronictl edit-config`."
  type        = bool
}

variable "db_preload_libraries" {
  description = "Libraries that PostgreSQL loads at its start: timescaledb."
  type        = string
}

variable "db_cpu" {
  description = "MHz reserved for a member."
  type        = number
  default     = 2000
}

variable "db_memory" {
  description = "MB for a member; the container is killed above it."
  type        = number
  default     = 4096
}

locals {
  docker = var.db_runtime == "docker"
  home   = local.docker ? "/home/postgres/pgdata" : var.db_data_dir

  # Settings without a secret and without an address of a node; those come from the task's environment, which Patroni prefers.
  patroni = {
    scope = var.scope
    etcd3 = { hosts = [for e in var.etcd_endpoints : replace(e, "http://", "")] }

    bootstrap = {
      # Read once, when the cluster is made; later `patronictl edit-config`.
      dcs = {
        ttl                     = 30
        loop_wait               = 10
        retry_timeout           = 10
        maximum_lag_on_failover = 1048576
        # Without etcd the primary goes on for as long as every member answers it; the proxy follows this setting.
        failsafe_mode    = true
        synchronous_mode = var.synchronous_mode
        postgresql = {
          use_pg_rewind = true
          use_slots     = true
          parameters = {
            shared_preload_libraries = var.db_preload_libraries
            max_connections          = 200
            wal_log_hints            = "on"
            password_encryption      = "scram-sha-256"
          }
        }
      }
      initdb = [{ encoding = "UTF8" }, { locale = "C.UTF-8" }, "data-checksums"]
      # Patroni makes no users of its own accord.
      post_bootstrap = "/bin/sh {{ env `NOMAD_TASK_DIR` }}/bootstrap.sh"
    }

    postgresql = {
      data_dir        = "${local.home}/data"
      bin_dir         = var.db_bin_dir
      use_unix_socket = true
      # Without it the copy for a new replica waits for minutes for the next checkpoint.
      basebackup = { checkpoint = "fast" }
      parameters = { unix_socket_directories = local.docker ? "/var/run/postgresql" : local.home }
      # The superuser and pg_rewind log in on the database nodes only, everybody else from the client networks.
      pg_hba = concat(
        ["local all all peer"],
        flatten([for n in var.db_nodes : [
          "host replication replicator ${n.address}/32 scram-sha-256",
          "host all postgres,rewind ${n.address}/32 scram-sha-256",
        ]]),
        ["host all postgres,rewind all reject"],
        [for network in var.db_client_networks : "host all all ${network} scram-sha-256"],
      )
    }
  }
}

job "timescaledb-ha" {
  type        = "service"
  datacenters = var.datacenters

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  # Exactly two nodes carry the mark; the data is there and does not travel.
  constraint {
    attribute = "${meta.stateful}"
    value     = "true"
  }

  # One member after the other. A base backup may take long. No canary: it would be a third member.
  update {
    max_parallel      = 1
    min_healthy_time  = "60s"
    healthy_deadline  = "30m"
    progress_deadline = "45m"
    auto_revert       = true
  }

  group "database" {
    count = length(var.db_nodes)

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      port "pg" {
        static = 5432
      }
      # Open between the two nodes: members ask each other before a failover.
      port "patroni" {
        static = 8008
      }
    }

    restart {
      attempts = 10
      interval = "10m"
      delay    = "10s"
      mode     = "delay"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    # A node that is cut off keeps its member: Patroni decides who leads, not Nomad.
    disconnect {
      lost_after = "72h"
      replace    = false
      reconcile  = "keep_original"
    }
    migrate {
      max_parallel     = 1
      min_healthy_time = "60s"
      healthy_deadline = "30m"
    }

    service {
      name     = "timescaledb-ha"
      provider = var.service_provider
      port     = "pg"
      # 200 of a leader, and of a replica that runs.
      check {
        type     = "http"
        port     = "patroni"
        path     = "/readiness"
        interval = "10s"
        timeout  = "3s"
      }
    }

    # Refuses with a sentence what Patroni would stumble over.
    task "ready" {
      driver = var.db_runtime
      user   = var.db_user
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      env {
        DATABASE_HOME   = local.home
        DATABASE_FOLDER = var.db_data_dir # as the node's administrator sees it
        DATABASE_BIN    = var.db_bin_dir
        ETCD_ENDPOINTS  = join(" ", var.etcd_endpoints)
      }
      template {
        destination     = "local/ready.sh"
        data            = file("ready.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }

      dynamic "config" {
        for_each = local.docker ? [1] : []
        content {
          image        = var.db_image
          command      = "/bin/bash"
          args         = ["/local/ready.sh"]
          network_mode = "host"
          volumes      = ["${var.db_data_dir}:/home/postgres/pgdata"]
        }
      }
      dynamic "config" {
        for_each = local.docker ? [] : [1]
        content {
          command = "/bin/bash"
          args    = ["${NOMAD_TASK_DIR}/ready.sh"]
        }
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    task "database" {
      driver = var.db_runtime
      user   = var.db_user
      # A clean stop writes a checkpoint. The agent must allow it: max_kill_timeout in agents/client-linux.hcl.
      kill_signal  = "SIGTERM"
      kill_timeout = "3m"

      env {
        PATRONI_NAME                       = "${node.unique.name}"
        PATRONI_RESTAPI_LISTEN             = "${NOMAD_ADDR_patroni}"
        PATRONI_RESTAPI_CONNECT_ADDRESS    = "${NOMAD_ADDR_patroni}"
        PATRONI_POSTGRESQL_LISTEN          = "${NOMAD_ADDR_pg}"
        PATRONI_POSTGRESQL_CONNECT_ADDRESS = "${NOMAD_ADDR_pg}"
        # Not in the secrets directory: after a boot Nomad does not make that again, and what is there then is root's.
        PATRONI_POSTGRESQL_PGPASS = "${local.home}/pgpass"
        # bootstrap.sh
        BOOT_TIMESCALEDB = regex_replace(var.db_preload_libraries, "timescaledb", "") == var.db_preload_libraries ? "" : "1"
      }
      template {
        destination = "local/patroni.yml"
        data        = yamlencode(local.patroni)
      }
      template {
        destination     = "local/bootstrap.sh"
        data            = file("bootstrap.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      template {
        destination     = "local/roles.sql"
        data            = file("roles.sql")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      # Patroni removes its own names from the environment before it starts anything, so bootstrap.sh's have others.
      template {
        destination          = "${NOMAD_SECRETS_DIR}/patroni.env"
        env                  = true
        error_on_missing_key = true
        # Another password is taken up by hand: ALTER ROLE first, then `nomad alloc restart` of the replica and the leader.
        change_mode = "noop"
        data        = <<-EOT
          {{ with nomadVar "nomad/jobs/timescaledb-ha" }}
          PATRONI_SUPERUSER_USERNAME=postgres
          PATRONI_SUPERUSER_PASSWORD={{ .superuser_password | toJSON }}
          PATRONI_REPLICATION_USERNAME=replicator
          PATRONI_REPLICATION_PASSWORD={{ .replication_password | toJSON }}
          PATRONI_REWIND_USERNAME=rewind
          PATRONI_REWIND_PASSWORD={{ .rewind_password | toJSON }}
          PATRONI_RESTAPI_USERNAME=patroni
          PATRONI_RESTAPI_PASSWORD={{ .restapi_password | toJSON }}
          BOOT_VIETMARKET_PASSWORD={{ .vietmarket_password | toJSON }}
          BOOT_MONITOR_PASSWORD={{ .monitor_password | toJSON }}
          BOOT_GVFX_PASSWORD={{ .gvfx_password | toJSON }}
          {{ end }}
        EOT
      }

      # The image's entrypoint would start a plain server: two nodes, two primaries. Any other command it runs as it is.
      dynamic "config" {
        for_each = local.docker ? [1] : []
        content {
          image        = var.db_image
          command      = var.db_patroni
          args         = ["/local/patroni.yml"]
          network_mode = "host"
          shm_size     = 268435456 # Docker's 64 MB is too little for parallel queries
          volumes      = ["${var.db_data_dir}:/home/postgres/pgdata"]
        }
      }
      dynamic "config" {
        for_each = local.docker ? [] : [1]
        content {
          command = var.db_patroni
          args    = ["${NOMAD_TASK_DIR}/patroni.yml"]
        }
      }

      resources {
        cpu    = var.db_cpu
        memory = var.db_memory
      }
    }
  }
}
