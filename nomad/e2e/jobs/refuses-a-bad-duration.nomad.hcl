# A duration that is none is refused; the key and the value are named.
#
#: failed write.hold_timeout
#: failed soon

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "etcd_endpoints" {
  description = "By default nobody listens there: the proxy runs all the same, and its clients wait."
  type        = list(string)
  default     = ["http://127.0.0.1:1"]
}

job "pglp-e2e-refuses-a-bad-duration" {
  datacenters = var.datacenters

  group "proxy" {
    network {
      port "pg" {}
    }

    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "proxy" {
      driver = "pg-leader-proxy"

      config {
        cluster { scope = "e2e" }
        etcd { endpoints = var.etcd_endpoints }
        probe { user = "monitor" }
        write {
          port         = "pg"
          hold_timeout = "soon"
        }
        admin { listen = "off" }
      }

      env {
        PGLP_PROBE_PASSWORD = "e2e"
      }

      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
