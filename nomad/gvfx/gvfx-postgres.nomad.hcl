# Stack B's own PostgreSQL: one server, on the node that has its data. Healthy is 1/1 and pg_isready.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-postgres.nomad.hcl
#
# The first time, with an empty directory: add -var initialise=true. It fails over to no other node; a database that shall do
# that belongs into the cluster of database/timescaledb-ha.nomad.hcl: POSTGRES_HOST and POSTGRES_PORT then name the proxy.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where services are registered: consul or nomad."
  type        = string
}

variable "gvfx_node" {
  description = "The node that carries this stack's data."
  type        = string
}

variable "gvfx_postgres_image" {
  type = string

  validation {
    condition = var.gvfx_postgres_image != "" && (
      regex_replace(var.gvfx_postgres_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_postgres_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_postgres_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_postgres_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_postgres_port" {
  description = "Not 5432 or 5433: they belong to the database cluster on the same node."
  type        = number
}

variable "initialise" {
  description = "true once, to accept an empty directory on a new node: -var initialise=true."
  type        = bool
  default     = false
}

variable "min_free_gib" {
  description = "The task is refused when less is free."
  type        = number
  default     = 20
}

job "gvfx-postgres" {
  type        = "service"
  datacenters = var.datacenters

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  constraint {
    attribute = "${meta.stateful}"
    value     = "true"
  }
  # The data is on this node and does not travel.
  constraint {
    attribute = "${node.unique.name}"
    value     = var.gvfx_node
  }

  # No canary: it would be a second writer.
  update {
    max_parallel      = 1
    min_healthy_time  = "20s"
    healthy_deadline  = "5m"
    progress_deadline = "10m"
    auto_revert       = true
  }

  group "postgres" {
    network {
      port "pg" {
        static = var.gvfx_postgres_port
        to     = 5432
      }
    }

    # A node that is cut off keeps its task, and no other node starts one: it would start without the data.
    restart {
      attempts = 5
      interval = "30m"
      delay    = "20s"
      mode     = "delay"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    disconnect {
      lost_after = "72h"
      replace    = false
      reconcile  = "keep_original"
    }

    service {
      name     = "gvfx-postgres"
      provider = var.service_provider
      port     = "pg"
      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "3s"
      }
    }

    # Refuses a directory that is not the one with the data. It runs in the PostgreSQL image, which has a shell.
    task "sentinel" {
      driver = "docker"
      user   = "root"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      env {
        NODE         = "${node.unique.name}"
        DIRECTORY    = "/directory"
        FOLDER       = "/var/lib/nomad/gvfx/postgres"
        INITIALISE   = var.initialise
        MIN_FREE_GIB = var.min_free_gib
        # The uid of the image's postgres: 999 in Debian's, 70 in Alpine's. They sort texts differently, too.
        OWNED      = "pgdata"
        OWNED_USER = "postgres"
      }
      template {
        destination     = "local/sentinel.sh"
        data            = file("sentinel.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      config {
        image   = var.gvfx_postgres_image
        command = "/bin/sh"
        args    = ["/local/sentinel.sh"]
        volumes = ["/var/lib/nomad/gvfx/postgres:/directory"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    task "postgres" {
      driver       = "docker"
      kill_signal  = "SIGINT" # PostgreSQL's fast shutdown
      kill_timeout = "60s"

      env {
        PGDATA = "/var/lib/postgresql/data/pgdata"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/postgres.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          POSTGRES_DB={{ .POSTGRES_DB | toJSON }}
          POSTGRES_USER={{ .POSTGRES_USER | toJSON }}
          POSTGRES_PASSWORD={{ .POSTGRES_PASSWORD | toJSON }}
          {{ end }}
        EOT
      }

      config {
        image    = var.gvfx_postgres_image
        ports    = ["pg"]
        shm_size = 268435456
        volumes  = ["/var/lib/nomad/gvfx/postgres:/var/lib/postgresql/data"]
      }
      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
