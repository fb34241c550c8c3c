# The one writer of BingX data: never two at a time, and never by another address than the exit node's.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl gvfx-worker.nomad.hcl
#
# After gvfx-worker-egress-check has passed and the worker before it is gone. Why there are never two: an update and a drain start
# the next allocation when the last has ended; a node that is cut off stops its own after 30 s, and the servers wait longer than
# that; `scaling` rejects a second one.

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

variable "gvfx_worker_command" {
  type = string
}

variable "gvfx_worker_args" {
  type = list(string)
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

job "gvfx-worker" {
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
    attribute = "${meta.egress_worker}"
    value     = "true"
  }

  # No canary: it would be a second writer.
  update {
    max_parallel      = 1
    health_check      = "task_states"
    min_healthy_time  = "30s"
    healthy_deadline  = "10m"
    progress_deadline = "15m"
    auto_revert       = true
  }

  group "worker" {
    count = 1

    # `nomad job scale gvfx-worker 2` is rejected.
    scaling {
      enabled = false
      min     = 0
      max     = 1
    }
    restart {
      attempts = 3
      interval = "10m"
      delay    = "20s"
      mode     = "fail"
    }
    reschedule {
      unlimited      = true
      delay          = "30s"
      delay_function = "exponential"
      max_delay      = "15m"
    }
    # Shorter than what the servers wait before they replace it: heartbeat, 10 s of grace, and these 30 s.
    disconnect {
      stop_on_client_after = "30s"
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
        TS_HOSTNAME   = "gvfx-worker-${node.unique.name}"
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
        volumes = ["/var/lib/nomad/gvfx/tailscale/gvfx-worker:/var/lib/tailscale"]
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

    # Looks again all the time and moves to a fallback; when none is left it fails, and the worker with it.
    task "egress-watch" {
      driver       = "docker"
      kill_timeout = "5s"
      # At once: while it was started again, the worker would go on behind a wrong address.
      restart {
        attempts = 0
        mode     = "fail"
      }

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

    task "worker" {
      driver       = "docker"
      kill_timeout = "15s"

      # Every key of the configuration is a setting, the intervals of the schedulers among them. The key of the exit node's
      # network is not: it is in the secrets, which are listed.
      template {
        destination          = "${NOMAD_SECRETS_DIR}/worker.env"
        env                  = true
        error_on_missing_key = true
        data                 = <<-EOT
          {{ with nomadVar "nomad/jobs/gvfx/config" }}{{ range . }}
          {{ .Key }}={{ .Value | toJSON }}
          {{ end }}{{ end }}
          {{ with nomadVar "nomad/jobs/gvfx/secrets" }}
          BINGX_API_KEY={{ .BINGX_API_KEY | toJSON }}
          BINGX_SECRET_KEY={{ .BINGX_SECRET_KEY | toJSON }}
          API_TOKEN={{ .API_TOKEN | toJSON }}
          TIMESCALE_URL={{ .TIMESCALE_URL | toJSON }}
          OPENAI_API_KEY={{ .OPENAI_API_KEY | toJSON }}
          OPENROUTER_API_KEY={{ .OPENROUTER_API_KEY | toJSON }}
          TELEGRAM_API_ID={{ .TELEGRAM_API_ID | toJSON }}
          TELEGRAM_API_HASH={{ .TELEGRAM_API_HASH | toJSON }}
          TELEGRAM_SESSION={{ .TELEGRAM_SESSION | toJSON }}
          {{ end }}
          BINGX_WS_ENABLED=true
        EOT
      }

      config {
        image   = var.gvfx_backend_image
        command = var.gvfx_worker_command
        args    = var.gvfx_worker_args
      }
      resources {
        cpu    = 1000
        memory = 2048
      }
    }
  }
}
