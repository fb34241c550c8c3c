# A task that died is started again by the restart policy, and listens at the same port.
#
#: running
#: listens pg
#: signal SIGKILL
#: restarted
#: running
#: listens pg

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "etcd_endpoints" {
  description = "By default nobody listens there: the proxy runs all the same, and its clients wait."
  type        = list(string)
  default     = ["http://127.0.0.1:1"]
}

job "pglp-e2e-restarts" {
  datacenters = var.datacenters

  group "proxy" {
    network {
      port "pg" {}
    }

    restart {
      attempts = 3
      interval = "1m"
      delay    = "1s"
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
