# Fills the gaps of BingX data, periodically, behind the same guard as the worker.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-bingx-full-backfill.nomad.hcl
#   nomad job periodic force gvfx-bingx-full-backfill

variable "datacenters" {
  type    = list(string)
  default = ["*"]
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

variable "gvfx_tailscale_image" {
  type = string

  validation {
    condition = var.gvfx_tailscale_image != "" && (
      regex_replace(var.gvfx_tailscale_image, "^[^@]+@sha256:[0-9a-f]{64}$", "") == "" ||
      regex_replace(var.gvfx_tailscale_image, "^[^@]+:[A-Za-z0-9_][A-Za-z0-9_.-]*$", "") == "" &&
      regex_replace(var.gvfx_tailscale_image, ":(latest|stable|main|master|edge)$", "") == var.gvfx_tailscale_image
    )
    error_message = "The image must carry an immutable tag or a digest."
  }
}

variable "gvfx_backfill_command" {
  type = string
}

variable "gvfx_backfill_args" {
  type = list(string)
}

variable "gvfx_backfill_crons" {
  description = "In UTC; */30 * * * * is allowed."
  type        = list(string)
}

variable "gvfx_dns_servers" {
  description = "Name servers for the containers that know the services; empty for those of Docker."
  type        = list(string)
  default     = []
}

variable "guard_from" {
  description = "job takes the guard of this folder, image the one at /app/scripts/tailscale in the backend's image."
  type        = string
  default     = "job"

  validation {
    condition     = contains(["job", "image"], var.guard_from)
    error_message = "The variable guard_from is neither job nor image."
  }
}

locals {
  guard = var.guard_from == "job" ? "/local/worker-egress-guard.sh" : "/app/scripts/tailscale/worker-egress-guard.sh"
}

job "gvfx-bingx-full-backfill" {
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
  constraint {
    attribute = "${meta.egress_worker}"
    value     = "true"
  }

  periodic {
    crons            = var.gvfx_backfill_crons
    prohibit_overlap = true
    time_zone        = "UTC"
  }

  group "backfill" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }

    # Sidecar, firewall, guard and the work share one network namespace, the group's. Docker tasks of a group without
    # `mode = "bridge"` have one each: the guard would test its own way out, and the work would leave by another.
    network {
      mode = "bridge"
      dynamic "dns" {
        for_each = length(var.gvfx_dns_servers) == 0 ? [] : [var.gvfx_dns_servers]
        content {
          servers = dns.value
        }
      }
    }

    task "tailscale" {
      driver       = "docker"
      kill_timeout = "5s"
      lifecycle {
        hook    = "prestart"
        sidecar = true
      }
      # Its death ends the allocation, and the next one passes the guard again.
      restart {
        attempts = 0
        mode     = "fail"
      }

      env {
        TS_STATE_DIR  = "/var/lib/tailscale"
        TS_SOCKET     = "/alloc/data/tailscaled.sock"
        TS_USERSPACE  = "false" # else it routes for nobody but itself
        TS_AUTH_ONCE  = "true"
        TS_ACCEPT_DNS = "false"
        TS_HOSTNAME   = "gvfx-bingx-full-backfill-${node.unique.name}"
        TS_EXTRA_ARGS = "--advertise-tags=tag:gvfx-app"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/tailscale.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          TS_AUTHKEY={{ .TS_AUTHKEY | toJSON }}
          {{ end }}
        EOT
      }
      config {
        image   = var.gvfx_tailscale_image
        cap_add = ["NET_ADMIN", "NET_RAW"]
        devices = [{ host_path = "/dev/net/tun", container_path = "/dev/net/tun" }]
        # One for each job: two with one state would be one machine to Tailscale.
        volumes = ["/var/lib/nomad/gvfx/tailscale/gvfx-bingx-full-backfill:/var/lib/tailscale"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }

    # Nothing leaves but through the tunnel, also in the seconds between the death of the sidecar and that of its siblings.
    task "egress-firewall" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      template {
        destination     = "local/worker-egress-firewall.sh"
        data            = file("worker-egress-firewall.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      config {
        image      = var.gvfx_tailscale_image
        entrypoint = ["/bin/sh", "/local/worker-egress-firewall.sh"]
        cap_add    = ["NET_ADMIN", "NET_RAW"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }

    task "egress-guard" {
      driver = "docker"
      lifecycle {
        hook    = "prestart"
        sidecar = false
      }
      kill_timeout = "5s"

      env {
        TS_SOCKET           = "/alloc/data/tailscaled.sock"
        TS_GUARD_STATE_FILE = "/alloc/data/egress"
      }
      template {
        destination     = "local/worker-egress-guard.sh"
        data            = file("worker-egress-guard.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/guard.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          TS_EXIT_NODE_PRIMARY={{ .TS_EXIT_NODE_PRIMARY | toJSON }}
          TS_EXIT_NODE_FALLBACKS={{ if ne .TS_EXIT_NODE_FALLBACKS.Value "none" }}{{ .TS_EXIT_NODE_FALLBACKS | toJSON }}{{ end }}
          TS_EGRESS_EXPECTED_IPS={{ .TS_EGRESS_EXPECTED_IPS | toJSON }}
          {{ end }}
        EOT
      }
      config {
        image   = var.gvfx_backend_image
        command = "/bin/bash"
        args    = [local.guard]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }

    task "egress-watch" {
      driver       = "docker"
      kill_timeout = "5s"

      env {
        TS_SOCKET           = "/alloc/data/tailscaled.sock"
        TS_GUARD_STATE_FILE = "/alloc/data/egress"
      }
      template {
        destination     = "local/worker-egress-guard.sh"
        data            = file("worker-egress-guard.sh")
        left_delimiter  = "<|"
        right_delimiter = "|>"
      }
      template {
        destination          = "${NOMAD_SECRETS_DIR}/guard.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          TS_EXIT_NODE_PRIMARY={{ .TS_EXIT_NODE_PRIMARY | toJSON }}
          TS_EXIT_NODE_FALLBACKS={{ if ne .TS_EXIT_NODE_FALLBACKS.Value "none" }}{{ .TS_EXIT_NODE_FALLBACKS | toJSON }}{{ end }}
          TS_EGRESS_EXPECTED_IPS={{ .TS_EGRESS_EXPECTED_IPS | toJSON }}
          {{ end }}
        EOT
      }
      config {
        image   = var.gvfx_backend_image
        command = "/bin/bash"
        args    = [local.guard, "--watch", "30"]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }

    task "backfill" {
      driver = "docker"
      # Its end is the allocation's: the watch and the sidecar go with it.
      leader       = true
      kill_timeout = "15s"

      template {
        destination          = "${NOMAD_SECRETS_DIR}/backfill.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}
          MARKET_GOLD_PAIRS={{ .MARKET_GOLD_PAIRS | toJSON }}
          MARKET_CRYPTO_PAIRS={{ .MARKET_CRYPTO_PAIRS | toJSON }}
          BINGX_MARKET_DATA_PAIRS={{ .BINGX_MARKET_DATA_PAIRS | toJSON }}
          CONVEX_URL={{ .CONVEX_URL | toJSON }}
          TIMESCALE_MARKET_DATA_ENABLED={{ .TIMESCALE_MARKET_DATA_ENABLED | toJSON }}
          BINGX_FULL_BACKFILL_MAX_BATCHES={{ .BINGX_FULL_BACKFILL_MAX_BATCHES | toJSON }}
          BINGX_FULL_BACKFILL_OPEN_GAP_THRESHOLD={{ .BINGX_FULL_BACKFILL_OPEN_GAP_THRESHOLD | toJSON }}
          BINGX_FULL_BACKFILL_NON_OK_SOURCE_THRESHOLD={{ .BINGX_FULL_BACKFILL_NON_OK_SOURCE_THRESHOLD | toJSON }}
          {{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          BINGX_API_KEY={{ .BINGX_API_KEY | toJSON }}
          BINGX_SECRET_KEY={{ .BINGX_SECRET_KEY | toJSON }}
          TIMESCALE_URL={{ .TIMESCALE_URL | toJSON }}
          {{ end }}
          BINGX_FULL_BACKFILL_ENABLED=true
          BINGX_WS_ENABLED=false
        EOT
      }

      config {
        image   = var.gvfx_backend_image
        command = var.gvfx_backfill_command
        args    = var.gvfx_backfill_args
      }
      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
