# Missing candles of the past, daily ones only; periodically.
#
#   nomad var put @../variables/vietmarket-candles-backfill.nv.hcl
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl vietmarket-candles-backfill.nomad.hcl
#   nomad job periodic force vietmarket-candles-backfill
#
# With CONVEX_URL = "none" candles go to TimescaleDB only. A `{status:"error"}` of Convex must not fail the write to the
# database; that is the image's part. To switch the job off: nomad job stop -purge.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "candles_image" {
  type = string

  validation {
    condition = var.candles_image != "" && (
      regex_replace(var.candles_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.candles_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.candles_image, ":(latest|stable|main|master|edge)$", "") == var.candles_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "candles_backfill_command" {
  type = string
}

variable "candles_backfill_args" {
  type = list(string)
}

variable "candles_backfill_crons" {
  description = "Five fields each, in UTC."
  type        = list(string)
}

job "vietmarket-candles-backfill" {
  type        = "batch"
  datacenters = var.datacenters

  constraint {
    attribute = "${attr.kernel.name}"
    value     = "linux"
  }
  # Not on the witness, whichever of the two marks it carries.
  constraint {
    attribute = "${meta.role}"
    operator  = "!="
    value     = "witness"
  }
  constraint {
    attribute = "${node.class}"
    operator  = "!="
    value     = "witness"
  }

  # UTC. A run that takes longer than the interval is not joined by a second one.
  periodic {
    crons            = var.candles_backfill_crons
    prohibit_overlap = true
    time_zone        = "UTC"
  }

  group "ingest" {
    # A batch that is sent again changes nothing: candles are upserted by key.
    restart {
      attempts = 2
      interval = "10m"
      delay    = "30s"
      mode     = "fail"
    }
    reschedule {
      attempts  = 1
      interval  = "1h"
      delay     = "1m"
      unlimited = false
    }

    task "ingest" {
      driver       = "docker"
      kill_timeout = "20s"

      config {
        image   = var.candles_image
        command = var.candles_backfill_command
        args    = var.candles_backfill_args
      }

      env {
        TFS = "1d"
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/ingest.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/vietmarket-candles-backfill" }}
          PG_URL={{ .PG_URL | toJSON }}
          CONVEX_URL={{ if ne .CONVEX_URL.Value "none" }}{{ .CONVEX_URL | toJSON }}{{ end }}
          {{ end }}
        EOT
      }

      resources {
        cpu    = 300
        memory = 512
      }
    }
  }
}
