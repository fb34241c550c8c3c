# A stop ends the task well within kill_timeout when no session is open, and then nothing listens any more.
#
#: running
#: listens pg
#: stop
#: exits 0
#: silent pg

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "etcd_endpoints" {
  description = "By default nobody listens there: the proxy runs all the same, and its clients wait."
  type        = list(string)
  default     = ["http://127.0.0.1:1"]
}

job "pglp-e2e-stops" {
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

      kill_timeout = "5s"

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
