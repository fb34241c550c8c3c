# Stack B's daily backup, on the node that keeps it: a dump of PostgreSQL that can be listed, and a copy of the buckets.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-backup.nomad.hcl
#   nomad job periodic force gvfx-backup
#
# A run that fails exits 1 and leaves the last good backup.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
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

variable "gvfx_mc_image" {
  type = string

  validation {
    condition = var.gvfx_mc_image != "" && (
      regex_replace(var.gvfx_mc_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_mc_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_mc_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_mc_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_store_url" {
  description = "The S3 store: http://ADDRESS:PORT."
  type        = string
}

variable "gvfx_backup_crons" {
  description = "In UTC."
  type        = list(string)
  default     = ["15 2 * * *"]
}

variable "keep_days" {
  description = "Older dumps are removed, but never the last good one."
  type        = number
  default     = 14
}

variable "gvfx_dns_servers" {
  description = "Name servers for the containers that know the services; empty for those of Docker."
  type        = list(string)
  default     = []
}

job "gvfx-backup" {
  type        = "batch"
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

  periodic {
    crons            = var.gvfx_backup_crons
    prohibit_overlap = true
    time_zone        = "UTC"
  }

  group "backup" {
    network {
      dynamic "dns" {
        for_each = length(var.gvfx_dns_servers) == 0 ? [] : [var.gvfx_dns_servers]
        content {
          servers = dns.value
        }
      }
    }

    restart {
      attempts = 1
      interval = "1h"
      delay    = "5m"
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "dump" {
      driver = "docker"
      user   = "root"

      env {
        DIRECTORY = "/backup"
        KEEP_DAYS = var.keep_days
      }
      template {
        destination     = "local/backup.sh"
        data            = file("backup.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/dump.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          PGUSER={{ .POSTGRES_USER | toJSON }}
          PGPASSWORD={{ .POSTGRES_PASSWORD | toJSON }}
          PGDATABASE={{ .POSTGRES_DB | toJSON }}
          {{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          PGHOST={{ .POSTGRES_HOST | toJSON }}
          PGPORT={{ .POSTGRES_PORT | toJSON }}
          {{ end }}
        EOT
      }

      config {
        image   = var.gvfx_postgres_image
        command = "/bin/sh"
        args    = ["/local/backup.sh"]
        volumes = ["/var/lib/nomad/gvfx/backup:/backup"]
      }
      resources {
        cpu    = 500
        memory = 256
      }
    }

    task "mirror" {
      driver = "docker"
      env {
        STORE_URL     = "${var.gvfx_store_url}"
        MC_CONFIG_DIR = "/alloc/tmp/mc-mirror"
      }
      template {
        destination     = "local/buckets.sh"
        data            = file("buckets.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/store.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          STORE_USER={{ .MINIO_ROOT_USER | toJSON }}
          STORE_PASSWORD={{ .MINIO_ROOT_PASSWORD | toJSON }}
          {{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          BUCKETS="{{ .S3_STORAGE_EXPORTS_BUCKET }} {{ .S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET }} {{ .S3_STORAGE_MODULES_BUCKET }} {{ .S3_STORAGE_FILES_BUCKET }} {{ .S3_STORAGE_SEARCH_BUCKET }}"
          {{ end }}
        EOT
      }
      config {
        image      = var.gvfx_mc_image
        entrypoint = ["/bin/sh", "/local/buckets.sh", "mirror", "/backup/buckets"]
        volumes    = ["/var/lib/nomad/gvfx/backup:/backup"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
