# The guard alone, before the worker: exit 0 when an exit node is active and the public address is an expected one.
#
#   nomad job run -hcl2-strict=false -var-file ../site.vars.hcl -var run_id=$(date +%s) gvfx-worker-egress-check.nomad.hcl
#
# A batch job that did not change is not run again, so each run has an id.

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

variable "run_id" {
  description = "Another one for each run."
  type        = string
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

job "gvfx-worker-egress-check" {
  type        = "batch"
  datacenters = var.datacenters

  meta {
    run = var.run_id
  }

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

  group "check" {
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
        TS_HOSTNAME   = "gvfx-worker-egress-check-${node.unique.name}"
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
        volumes = ["/var/lib/nomad/gvfx/tailscale/gvfx-worker-egress-check:/var/lib/tailscale"]
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

    task "check" {
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
        args    = [local.guard]
      }
      resources {
        cpu    = 100
        memory = 128
      }
    }
  }
}
