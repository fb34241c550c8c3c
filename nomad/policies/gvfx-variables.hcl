# A job reads only the variables below its own name. Each job of Stack B gets this for the shared ones, gvfx/config and
# gvfx/secrets; `nomad-layout variables policies` does it for all of them:
#
#   nomad acl policy apply -namespace default -job gvfx-api gvfx-api-variables policies/gvfx-variables.hcl
namespace "default" {
  variables {
    path "nomad/jobs/gvfx/*" {
      capabilities = ["read"]
    }
  }
}
