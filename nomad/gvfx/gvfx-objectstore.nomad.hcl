# The S3 store: MinIO on the node that has its data. Healthy is 1/1, /minio/health/live, and the five buckets.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-objectstore.nomad.hcl
#
# The first time, with an empty directory: add -var initialise=true. MinIO publishes no images since October 2025: README.md,
# "Images".

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

variable "gvfx_objectstore_image" {
  type = string

  validation {
    condition = var.gvfx_objectstore_image != "" && (
      regex_replace(var.gvfx_objectstore_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_objectstore_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_objectstore_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_objectstore_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_mc_image" {
  description = "MinIO's client, which makes the buckets."
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

variable "gvfx_objectstore_api" {
  type = number
}

variable "gvfx_objectstore_ui" {
  type = number
}

variable "initialise" {
  description = "true once, to accept an empty directory on a new node: -var initialise=true."
  type        = bool
  default     = false
}

variable "min_free_gib" {
  description = "The task is refused when less is free."
  type        = number
  default     = 50
}

job "gvfx-objectstore" {
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

  group "objectstore" {
    network {
      port "s3" {
        static = var.gvfx_objectstore_api
        to     = 9000
      }
      port "ui" {
        static = var.gvfx_objectstore_ui
        to     = 9001
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
      name     = "gvfx-objectstore"
      provider = var.service_provider
      port     = "s3"
      check {
        type     = "http"
        path     = "/minio/health/live"
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
        FOLDER       = "/var/lib/nomad/gvfx/objectstore"
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
        volumes = ["/var/lib/nomad/gvfx/objectstore:/directory"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }

    task "objectstore" {
      driver       = "docker"
      kill_timeout = "60s"

      template {
        destination          = "${NOMAD_SECRETS_DIR}/minio.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          MINIO_ROOT_USER={{ .MINIO_ROOT_USER | toJSON }}
          MINIO_ROOT_PASSWORD={{ .MINIO_ROOT_PASSWORD | toJSON }}
          {{ end }}
        EOT
      }

      config {
        image   = var.gvfx_objectstore_image
        args    = ["server", "/data", "--address", ":9000", "--console-address", ":9001"]
        ports   = ["s3", "ui"]
        volumes = ["/var/lib/nomad/gvfx/objectstore:/data"]
      }
      resources {
        cpu    = 500
        memory = 1024
      }
    }

    # Makes the buckets that are missing; when it cannot, the task fails.
    task "buckets" {
      driver = "docker"
      lifecycle {
        hook    = "poststart"
        sidecar = false
      }
      env {
        STORE_URL     = "http://${NOMAD_ADDR_s3}"
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
        entrypoint = ["/bin/sh", "/local/buckets.sh", "make"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
