# News from Vietstock into Convex; periodically.
#
#   nomad var put @../variables/vietmarket-news.nv.hcl
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl vietmarket-news.nomad.hcl
#   nomad job periodic force vietmarket-news
#
# CONVEX_URL must be there; every other key of the variable becomes a setting too.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "news_image" {
  type = string

  validation {
    condition = var.news_image != "" && (
      regex_replace(var.news_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.news_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.news_image, ":(latest|stable|main|master|edge)$", "") == var.news_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "news_command" {
  type = string
}

variable "news_args" {
  type = list(string)
}

variable "news_crons" {
  description = "Five fields each, in UTC."
  type        = list(string)
}

job "vietmarket-news" {
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
    crons            = var.news_crons
    prohibit_overlap = true
    time_zone        = "UTC"
  }

  group "ingest" {
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
        image   = var.news_image
        command = var.news_command
        args    = var.news_args
      }

      template {
        destination          = "${NOMAD_SECRETS_DIR}/ingest.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/vietmarket-news" }}
          CONVEX_URL={{ .CONVEX_URL | toJSON }}
          {{ range . }}
          {{ .Key }}={{ .Value | toJSON }}
          {{ end }}{{ end }}
        EOT
      }

      resources {
        cpu    = 300
        memory = 512
      }
    }
  }
}
