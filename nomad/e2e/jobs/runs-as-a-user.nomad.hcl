# The proxy needs no privilege: it runs as the user that the task names, and writes to its log.
#
#: running
#: log listening
#: listens pg
#: executes id -un | grep -qx nobody
#: unchanged

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "etcd_endpoints" {
  description = "By default nobody listens there: the proxy runs all the same, and its clients wait."
  type        = list(string)
  default     = ["http://127.0.0.1:1"]
}

job "pglp-e2e-runs-as-a-user" {
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
      user   = "nobody"

      config {
        cluster { scope = "e2e" }
        etcd { endpoints = var.etcd_endpoints }
        probe { user = "monitor" }
        write { port = "pg" }
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
