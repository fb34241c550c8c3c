# A job of Stack B for a machine without Docker: constraints, update, restart, reschedule, disconnect, scaling and templates stay;
# each task runs on the node itself, the guard as it is, the others as stand-ins.
def on_the_node: sub("^/local/"; "${NOMAD_TASK_DIR}/") | sub("^/alloc/"; "${NOMAD_ALLOC_DIR}/");
.Job.TaskGroups[] |= (
  .Networks = null
  | .Tasks[] |= (
      .Driver = "raw_exec"
      | .Env = ((.Env // {}) | map_values(on_the_node))
        + {PATH: "\($stand_ins):/usr/local/bin:/usr/bin:/bin", WORK_NODE: "${node.unique.name}", WORK_LOG: $log, WORK_SECONDS: $seconds}
      | .Config =
          if .Name == "tailscale" then {command: "/bin/sleep", args: ["infinity"]}
          elif .Name == "egress-firewall" then {command: "/bin/true"}
          elif .Name == "worker" or .Name == "backfill" then {command: "\($stand_ins)/work"}
          else {command: .Config.command, args: (.Config.args | map(on_the_node))}
          end
      | .Resources = {CPU: 20, MemoryMB: 32}
    )
)
| .Job.Meta = ((.Job.Meta // {}) + {version: $version})
