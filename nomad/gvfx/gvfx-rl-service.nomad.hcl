# Inference and training, on nodes with a GPU, the primary one first. Healthy is rl_count instances and GET /health of each.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-rl-service.nomad.hcl
#
# A Mac runs only an arm64 image or an emulated one, and Docker there passes no GPU on: leave its mark `gpu` off until it has one.

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "service_provider" {
  description = "Where services are registered: consul or nomad."
  type        = string
}

variable "gvfx_rl_image" {
  type = string

  validation {
    condition = var.gvfx_rl_image != "" && (
      regex_replace(var.gvfx_rl_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_rl_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_rl_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_rl_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "rl_count" {
  description = "At most the number of nodes with meta.gpu = true."
  type        = number
}

variable "gvfx_dns_servers" {
  description = "Name servers for the containers that know the services; empty for those of Docker."
  type        = list(string)
  default     = []
}

job "gvfx-rl-service" {
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
  constraint {
    attribute = "${meta.gpu}"
    value     = "true"
  }
  # A preference: the secondary tier is where it goes when the primary is gone.
  affinity {
    attribute = "${meta.rl_tier}"
    value     = "primary"
    weight    = 100
  }

  # No canary: with static ports it would need a node more.
  update {
    max_parallel      = 1
    auto_revert       = true
    min_healthy_time  = "30s"
    healthy_deadline  = "5m"
    progress_deadline = "15m"
  }

  group "rl" {
    count = var.rl_count

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      port "http" {
        static = 9101
        to     = 9101
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
      name     = "gvfx-rl-service"
      provider = var.service_provider
      port     = "http"
      check {
        type     = "http"
        path     = "/health"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "rl" {
      driver       = "docker"
      kill_timeout = "30s"

      template {
        destination          = "${NOMAD_SECRETS_DIR}/rl.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          CONVEX_URL={{ .CONVEX_URL | toJSON }}
          {{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          OPENAI_API_KEY={{ .OPENAI_API_KEY | toJSON }}
          OPENROUTER_API_KEY={{ .OPENROUTER_API_KEY | toJSON }}
          {{ end }}
        EOT
      }

      config {
        image = var.gvfx_rl_image
        ports = ["http"]
      }
      resources {
        cpu    = 2000
        memory = 4096
      }
    }
  }
}
