# The layout on one machine: three Nomad clients in network namespaces of their own, with what is installed there instead of
# images. It goes after site.vars.hcl, so that everything else stays as it is.
service_provider = "nomad"

etcd_members = [
  {
    name     = "optiplex"
    node     = "optiplex"
    address  = "10.77.0.11"
    runtime  = "raw_exec"
    image    = ""
    command  = "/usr/bin/etcd"
    data_dir = "/opt/layout-test/etcd"
    user     = ""
  },
  {
    name     = "epyc"
    node     = "epyc"
    address  = "10.77.0.12"
    runtime  = "raw_exec"
    image    = ""
    command  = "/usr/bin/etcd"
    data_dir = "/opt/layout-test/etcd"
    user     = ""
  },
  {
    name     = "macmini"
    node     = "macmini"
    address  = "10.77.0.13"
    runtime  = "raw_exec"
    image    = ""
    command  = "/usr/bin/etcd"
    data_dir = "/opt/layout-test/etcd"
    user     = ""
  },
]
etcd_endpoints = ["http://10.77.0.11:2379", "http://10.77.0.12:2379", "http://10.77.0.13:2379"]

db_nodes = [
  { node = "optiplex", address = "10.77.0.11" },
  { node = "epyc", address = "10.77.0.12" },
]
db_runtime           = "raw_exec"
db_image             = "not-used:not-used"
db_data_dir          = "/opt/layout-test/database"
db_bin_dir           = "/usr/lib/postgresql/15/bin"
db_patroni           = "/opt/pg-leader-proxy-lab/bin/patroni"
db_user              = "postgres"
db_preload_libraries = ""
db_memory            = 1024
db_client_networks   = ["10.77.0.0/24"]

haproxy_runtime = "raw_exec"
haproxy_command = "/usr/sbin/haproxy"
