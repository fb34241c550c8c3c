# The driver mounts nothing, and says so instead of leaving a volume out. The client must have a host volume `pglp-e2e`.
#
#: failed volume

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "etcd_endpoints" {
  description = "By default nobody listens there: the proxy runs all the same, and its clients wait."
  type        = list(string)
  default     = ["http://127.0.0.1:1"]
}

job "pglp-e2e-refuses-a-volume" {
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

    volume "data" {
      type   = "host"
      source = "pglp-e2e"
    }

    task "proxy" {
      driver = "pg-leader-proxy"

      volume_mount {
        volume      = "data"
        destination = "/data"
      }

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
