# Self-hosted Convex on PostgreSQL and the S3 store, on the node that has its data. Healthy is 1/1 and GET /version.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-convex.nomad.hcl
#
# After gvfx-postgres and gvfx-objectstore. The admin key: nomad alloc exec -task convex ID ./generate_admin_key.sh

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

variable "gvfx_convex_image" {
  type = string

  validation {
    condition = var.gvfx_convex_image != "" && (
      regex_replace(var.gvfx_convex_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_convex_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_convex_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_convex_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_postgres_image" {
  description = "For the check of the database: it has psql."
  type        = string

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
  description = "For the check of the buckets."
  type        = string

  validation {
    condition = var.gvfx_mc_image != "" && (
      regex_replace(var.gvfx_mc_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_mc_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_mc_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_mc_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_convex_instance" {
  description = "The database has this name, with _ for -, and must exist."
  type        = string
}

variable "gvfx_convex_origin" {
  description = "The URL by which clients reach the API."
  type        = string
}

variable "gvfx_convex_site_origin" {
  description = "The URL by which clients reach HTTP actions."
  type        = string
}

variable "gvfx_store_url" {
  description = "The S3 store: http://ADDRESS:PORT."
  type        = string
}

variable "initialise" {
  description = "true once, to accept an empty directory on a new node: -var initialise=true."
  type        = bool
  default     = false
}

variable "min_free_gib" {
  description = "The task is refused when less is free."
  type        = number
  default     = 5
}

variable "gvfx_dns_servers" {
  description = "Name servers for the containers that know the services; empty for those of Docker."
  type        = list(string)
  default     = []
}

locals {
  # Convex goes on without any of these, on local files: the task "complete" refuses instead.
  store = <<-EOT
    {{ with nomadVar "nomad/jobs/gvfx/config" }}
    S3_STORAGE_EXPORTS_BUCKET={{ .S3_STORAGE_EXPORTS_BUCKET | toJSON }}
    S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET={{ .S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET | toJSON }}
    S3_STORAGE_MODULES_BUCKET={{ .S3_STORAGE_MODULES_BUCKET | toJSON }}
    S3_STORAGE_FILES_BUCKET={{ .S3_STORAGE_FILES_BUCKET | toJSON }}
    S3_STORAGE_SEARCH_BUCKET={{ .S3_STORAGE_SEARCH_BUCKET | toJSON }}
    {{ end }}
    {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
    AWS_ACCESS_KEY_ID={{ .MINIO_ROOT_USER | toJSON }}
    AWS_SECRET_ACCESS_KEY={{ .MINIO_ROOT_PASSWORD | toJSON }}
    INSTANCE_SECRET={{ .CONVEX_INSTANCE_SECRET | toJSON }}
    PGUSER={{ .POSTGRES_USER | toJSON }}
    PGPASSWORD={{ .POSTGRES_PASSWORD | toJSON }}
    {{ end }}
    {{ with nomadVar "nomad/jobs/gvfx/config" }}
    PGHOST={{ .POSTGRES_HOST | toJSON }}
    PGPORT={{ .POSTGRES_PORT | toJSON }}
    {{ end }}
    POSTGRES_URL=postgres://{{ with nomadVar "nomad/jobs/gvfx/secrets" }}{{ .POSTGRES_USER }}:{{ .POSTGRES_PASSWORD }}{{ end }}@{{ with nomadVar "nomad/jobs/gvfx/config" }}{{ .POSTGRES_HOST }}:{{ .POSTGRES_PORT }}{{ end }}
  EOT
  environment = {
    INSTANCE_NAME            = var.gvfx_convex_instance
    CONVEX_CLOUD_ORIGIN      = var.gvfx_convex_origin
    CONVEX_SITE_ORIGIN       = var.gvfx_convex_site_origin
    S3_ENDPOINT_URL          = var.gvfx_store_url
    AWS_REGION               = "us-east-1"
    AWS_S3_FORCE_PATH_STYLE  = "true"
    AWS_S3_DISABLE_SSE       = "true"
    AWS_S3_DISABLE_CHECKSUMS = "true"
    DO_NOT_REQUIRE_SSL       = "1" # the private network encrypts
    DISABLE_BEACON           = "true"
    REDACT_LOGS_TO_CLIENT    = "true"
    RUST_LOG                 = "info"
  }
}

job "gvfx-convex" {
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

  group "convex" {
    network {
      port "http" {
        static = 3210
        to     = 3210
      }
      port "site" {
        static = 3211
        to     = 3211
      }
      dynamic "dns" {
        for_each = length(var.gvfx_dns_servers) == 0 ? [] : [var.gvfx_dns_servers]
        content {
          servers = dns.value
        }
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
      name     = "gvfx-convex"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/version"
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
        FOLDER       = "/var/lib/nomad/gvfx/convex"
        INITIALISE   = var.initialise
        MIN_FREE_GIB = var.min_free_gib
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
        volumes = ["/var/lib/nomad/gvfx/convex:/directory"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    # Every setting there, the database reachable and present.
    task "complete" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      env = local.environment
      template {
        destination          = "${NOMAD_SECRETS_DIR}/convex.env"
        env                  = true
        error_on_missing_key = true
        data                 = local.store
      }
      template {
        destination     = "local/convex-complete.sh"
        data            = file("convex-complete.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      config {
        image   = var.gvfx_postgres_image
        command = "/bin/sh"
        args    = ["/local/convex-complete.sh"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    # The buckets are there.
    task "buckets" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      env {
        STORE_URL     = "${var.gvfx_store_url}"
        MC_CONFIG_DIR = "/alloc/tmp/mc-buckets"
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
        entrypoint = ["/bin/sh", "/local/buckets.sh", "check"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }

    task "convex" {
      driver       = "docker"
      kill_signal  = "SIGINT"
      kill_timeout = "60s"

      env = local.environment
      template {
        destination          = "${NOMAD_SECRETS_DIR}/convex.env"
        env                  = true
        error_on_missing_key = true
        data                 = local.store
      }
      config {
        image   = var.gvfx_convex_image
        ports   = ["http", "site"]
        volumes = ["/var/lib/nomad/gvfx/convex:/convex/data"]
      }
      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
