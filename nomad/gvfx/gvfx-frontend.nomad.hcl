# The frontend, where it is hosted here: two instances on two nodes. Healthy is 2/2 and GET / of each.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-frontend.nomad.hcl
#
# Hosted elsewhere (recommended) it holds API_BASE_URL and API_TOKEN as its own secrets, and this job is not run.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where services are registered: consul or nomad."
  type        = string
}

variable "gvfx_frontend_image" {
  type = string

  validation {
    condition = var.gvfx_frontend_image != "" && (
      regex_replace(var.gvfx_frontend_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_frontend_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_frontend_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_frontend_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_frontend_port" {
  description = "The port inside the image and on the node."
  type        = number
}

variable "api_canary" {
  description = "1 where count + 1 nodes qualify, since ports are static; else 0."
  type        = number
}

job "gvfx-frontend" {
  type        = "service"
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

  update {
    max_parallel      = 1
    canary            = var.api_canary
    auto_promote      = var.api_canary > 0
    auto_revert       = true
    min_healthy_time  = "15s"
    healthy_deadline  = "3m"
    progress_deadline = "10m"
  }

  group "frontend" {
    count = 2

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }
    spread {
      attribute = "${node.unique.id}"
    }

    network {
      port "http" {
        static = var.gvfx_frontend_port
        to     = var.gvfx_frontend_port
      }
    }

    restart {
      attempts = 5
      interval = "10m"
      delay    = "10s"
      mode     = "fail"
    }
    reschedule {
      unlimited      = true
      delay          = "30s"
      delay_function = "exponential"
      max_delay      = "10m"
    }

    service {
      name     = "gvfx-frontend"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "frontend" {
      driver       = "docker"
      kill_timeout = "20s"

      template {
        destination          = "${NOMAD_SECRETS_DIR}/frontend.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          NEXT_PUBLIC_API_BASE_URL={{ .NEXT_PUBLIC_API_BASE_URL | toJSON }}
          NEXT_PUBLIC_MARKET_GOLD_PAIRS={{ .NEXT_PUBLIC_MARKET_GOLD_PAIRS | toJSON }}
          NEXT_PUBLIC_MARKET_CRYPTO_PAIRS={{ .NEXT_PUBLIC_MARKET_CRYPTO_PAIRS | toJSON }}
          {{ end }}
        EOT
      }

      config {
        image = var.gvfx_frontend_image
        ports = ["http"]
      }
      resources {
        cpu    = 300
        memory = 512
      }
    }
  }
}
