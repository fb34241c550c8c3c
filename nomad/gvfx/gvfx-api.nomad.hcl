# The API: two instances on two nodes, http://gvfx-api.service.consul:8787. Healthy is 2/2 and GET /health of each.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-api.nomad.hcl

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where services are registered: consul or nomad."
  type        = string
}

variable "gvfx_backend_image" {
  type = string

  validation {
    condition = var.gvfx_backend_image != "" && (
      regex_replace(var.gvfx_backend_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_backend_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_backend_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_backend_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_api_command" {
  type = string
}

variable "gvfx_api_args" {
  type = list(string)
}

variable "api_canary" {
  description = "1 where count + 1 nodes qualify, since ports are static; else 0."
  type        = number
}

variable "gvfx_dns_servers" {
  description = "Name servers for the containers that know the services; empty for those of Docker."
  type        = list(string)
  default     = []
}

job "gvfx-api" {
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

  group "api" {
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
        static = 8787
        to     = 8787
      }
      dynamic "dns" {
        for_each = length(var.gvfx_dns_servers) == 0 ? [] : [var.gvfx_dns_servers]
        content {
          servers = dns.value
        }
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
      name     = "gvfx-api"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "api" {
      driver       = "docker"
      kill_timeout = "20s"

      template {
        destination          = "${NOMAD_SECRETS_DIR}/api.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          MARKET_GOLD_PAIRS={{ .MARKET_GOLD_PAIRS | toJSON }}
          MARKET_CRYPTO_PAIRS={{ .MARKET_CRYPTO_PAIRS | toJSON }}
          BINGX_MARKET_DATA_PAIRS={{ .BINGX_MARKET_DATA_PAIRS | toJSON }}
          RL_SERVICE_URL={{ .RL_SERVICE_URL | toJSON }}
          CONVEX_URL={{ .CONVEX_URL | toJSON }}
          TIMESCALE_MARKET_DATA_ENABLED={{ .TIMESCALE_MARKET_DATA_ENABLED | toJSON }}
          {{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          API_TOKEN={{ .API_TOKEN | toJSON }}
          CORS_ORIGIN={{ .CORS_ORIGIN | toJSON }}
          TIMESCALE_URL={{ .TIMESCALE_URL | toJSON }}
          OPENAI_API_KEY={{ .OPENAI_API_KEY | toJSON }}
          OPENROUTER_API_KEY={{ .OPENROUTER_API_KEY | toJSON }}
          TELEGRAM_API_ID={{ .TELEGRAM_API_ID | toJSON }}
          TELEGRAM_API_HASH={{ .TELEGRAM_API_HASH | toJSON }}
          TELEGRAM_SESSION={{ .TELEGRAM_SESSION | toJSON }}
          {{ end }}
          BINGX_WS_ENABLED=false
        EOT
      }

      config {
        image   = var.gvfx_backend_image
        command = var.gvfx_api_command
        args    = var.gvfx_api_args
        ports   = ["http"]
      }
      resources {
        cpu    = 500
        memory = 1024
      }
    }
  }
}
