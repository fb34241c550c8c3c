//! The commands, as an operator types them, with a stand-in for `nomad` that answers from files: what is asked, what is changed, and
//! that nothing is in a dry run. What a real cluster says to them is not to be seen here.
#![allow(clippy::unwrap_used, missing_docs)]

mod checks;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Writes down each call. `operator api PATH` gives the file of that path, `var get` that of the variable.
const NOMAD: &str = r#"#!/bin/bash
here=$(dirname "$0")/..
echo "nomad $*" >>"$here/calls"
name() { printf %s "$1" | tr -c 'A-Za-z0-9._-' _; }
case "$1 $2" in
"operator api") cat "$here/api/$(name "$3")" || exit 1 ;;
"var get") cat "$here/api/$(name "var $4")" 2>/dev/null || { echo "Variable not found" >&2; exit 1; } ;;
"node meta")
  file=$here/api/$(name "/v1/node/$5")
  jq --arg key "${6%%=*}" --arg value "${6#*=}" '.Meta[$key] = $value' "$file" >"$file.new" && mv "$file.new" "$file" ;;
"job run") [ ! -e "$here/job-run-fails" ] || { echo "Error during plan" >&2; exit 1; } ;;
esac
"#;

struct Cluster {
    place: tempfile::TempDir,
}

struct Ended {
    succeeded: bool,
    output: String,
}

impl Cluster {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        for folder in ["bin", "api"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        let cluster = Self { place };
        let file = cluster.path("bin/nomad");
        fs::write(&file, NOMAD).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn answers(self, path: &str, answer: &Value) -> Self {
        let name: String = path
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        fs::write(self.path("api").join(name), answer.to_string()).unwrap();
        self
    }

    /// A variable with these items.
    fn holds(self, path: &str, items: &Value) -> Self {
        self.answers(&format!("var {path}"), &json!({ "Path": path, "Items": items }))
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let output = Command::new(env!("CARGO_BIN_EXE_nomad-layout"))
            .args(["--folder", &folder.display().to_string()])
            .args(arguments)
            .env("PATH", path)
            .output()
            .unwrap();
        let output_text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        Ended { succeeded: output.status.success(), output: output_text }
    }

    fn passes(&self, arguments: &[&str], words: &[&str]) {
        let ended = self.run(arguments);
        assert!(ended.succeeded, "{}", ended.output);
        ended.says(words);
    }

    fn stops(&self, arguments: &[&str], words: &[&str]) {
        let ended = self.run(arguments);
        assert!(!ended.succeeded, "{}", ended.output);
        ended.says(words);
    }

    /// The calls that change something.
    fn changes(&self) -> Vec<String> {
        let looks = ["nomad operator api", "nomad var get"];
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls
            .lines()
            .filter(|call| !looks.iter().any(|look| call.starts_with(look)))
            .map(str::to_owned)
            .collect()
    }
}

impl Ended {
    fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.output.contains(word), "{word:?} is not in:\n{}", self.output);
        }
    }
}

/// One allocation as the API lists it.
fn allocation(id: &str, node: &str, status: &str, restarts: u64) -> Value {
    json!({
        "ID": id, "NodeName": node, "TaskGroup": "g", "DesiredStatus": "run", "ClientStatus": status, "CreateIndex": id.len(),
        "TaskStates": { "t": { "State": "running", "Failed": false, "Restarts": restarts,
            "Events": [{ "DisplayMessage": "Exit Code: 137" }] } },
    })
}

#[test]
fn a_dry_run_prints_every_step_and_changes_nothing() {
    let cluster = Cluster::new();
    cluster.passes(
        &["--dry-run", "deploy", "database"],
        &[
            "? variables",
            "/database && nomad job run -detach -hcl2-strict=false -var-file=/",
            " etcd.nomad.hcl)",
            "? job etcd 3/3",
            "? etcd (within",
            "timescaledb-ha.nomad.hcl",
            "? database",
            "schema.sql",
            "? proxy on 5433",
            "database: done",
        ],
    );
    cluster.passes(
        &["--dry-run", "deploy", "gvfx", "--legacy-worker-stopped", "--initialise"],
        &[
            "-var=initialise=true",
            "? /version of gvfx-convex",
            "-var=run_id=",
            "? never two of gvfx-worker",
            "gvfx: done",
        ],
    );
    cluster.passes(
        &["--dry-run", "deploy", "vietmarket"],
        &["+ nomad job periodic force -detach vietmarket-news"],
    );
    cluster.passes(
        &["--dry-run", "cutover"],
        &["+ nomad job stop -yes pg-haproxy", "? nobody listens on 5433", "? proxy on 5433"],
    );
    cluster.passes(
        &["--dry-run", "rollback"],
        &["+ nomad job stop -yes pg-leader-proxy", "pg-haproxy.nomad.hcl"],
    );
    assert_eq!(cluster.changes(), [""; 0]);
}

#[test]
fn the_order_can_be_taken_up_at_a_step() {
    let cluster = Cluster::new();
    let ended = cluster.run(&["--dry-run", "deploy", "database", "--from", "schema", "--to", "schema"]);
    assert!(ended.succeeded && !ended.output.contains("etcd.nomad.hcl"), "{}", ended.output);
    cluster
        .stops(&["--dry-run", "deploy", "database", "--from", "schma"], &["no step \"schma\"", "\"schema\""]);
    cluster.stops(&["--dry-run", "deploy", "database", "--from", "schema", "--to", "etcd"], &["comes after"]);
    cluster.stops(&["--dry-run", "deploy", "databse"], &["there are database, vietmarket and gvfx"]);
}

#[test]
fn a_worker_is_not_deployed_beside_the_one_before() {
    let cluster = Cluster::new();
    cluster.stops(
        &["--dry-run", "deploy", "gvfx", "--from", "legacy-worker"],
        &["two workers would write twice", "--legacy-worker-stopped", "gvfx stopped at legacy-worker"],
    );
    assert_eq!(cluster.changes(), [""; 0]);
}

#[test]
fn a_deployment_stops_at_the_first_gate_that_fails() {
    let cluster = Cluster::new();
    cluster.stops(
        &["deploy", "database"],
        &[
            "STOPPED: database stopped at variables",
            "--from variables",
            "there is no variable nomad/jobs/timescaledb-ha",
        ],
    );
    assert_eq!(cluster.changes(), [""; 0]);
}

#[test]
fn variables_that_are_missing_or_placeholders_are_named() {
    let cluster = Cluster::new().holds(
        "nomad/jobs/timescaledb-ha",
        &json!({ "superuser_password": "replace-me", "replication_password": "", "rewind_password": "x" }),
    );
    cluster.stops(
        &["variables", "check"],
        &[
            "superuser_password is still replace-me",
            "replication_password is empty",
            "no monitor_password",
            "there is no variable nomad/jobs/gvfx/secrets",
        ],
    );
}

#[test]
fn variables_with_placeholders_are_not_put() {
    let cluster = Cluster::new();
    let (good, bad) = (cluster.path("good.nv.hcl"), cluster.path("bad.nv.hcl"));
    fs::write(&good, "path = \"nomad/jobs/a\"\nitems {\n  key = \"value\"\n}\n").unwrap();
    fs::write(&bad, "path = \"nomad/jobs/b\"\nitems {\n  key = \"replace-me\"\n}\n").unwrap();
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    cluster.stops(&["variables", "put", &good, &bad], &["key of nomad/jobs/b has no value"]);
    assert_eq!(cluster.changes(), [""; 0]);
    cluster.passes(&["variables", "put", &good], &["+ nomad var put"]);
    assert_eq!(cluster.changes(), [format!("nomad var put -force -out=none @{good}")]);
}

#[test]
fn each_job_of_stack_b_may_read_the_shared_variables() {
    let cluster = Cluster::new();
    cluster.passes(&["variables", "policies"], &[]);
    let changes = cluster.changes();
    assert_eq!(changes.len(), 10, "{changes:?}");
    assert!(
        changes.iter().all(|call| call.starts_with("nomad acl policy apply -namespace default -job gvfx-")),
        "{changes:?}"
    );
}

#[test]
fn a_job_gate_counts_and_sees_a_restart_loop() {
    let two = json!([allocation("a", "optiplex", "running", 0), allocation("bb", "epyc", "running", 0)]);
    let cluster = Cluster::new()
        .answers("/v1/job/x/allocations", &two)
        .answers("/v1/job/x/deployment", &json!({ "JobVersion": 3, "Status": "successful" }))
        .answers("/v1/job/x", &json!({ "Version": 3 }));
    cluster.passes(&["gate", "job", "x", "2", "--within", "0"], &["job x 2/2: optiplex, epyc"]);
    cluster.stops(
        &["gate", "job", "x", "3", "--within", "0"],
        &["2 of 3 run", "the newest is running on epyc", "Exit Code: 137"],
    );
    let cluster =
        cluster.answers("/v1/job/x/deployment", &json!({ "JobVersion": 2, "Status": "successful" }));
    cluster
        .stops(&["gate", "job", "x", "2", "--within", "0"], &["the deployment of version 3 has not begun"]);
    let failed = json!({ "JobVersion": 3, "Status": "failed", "StatusDescription": "Failed due to progress deadline" });
    let cluster = cluster.answers("/v1/job/x/deployment", &failed);
    cluster.stops(
        &["gate", "job", "x", "2", "--within", "0"],
        &["the deployment is failed", "progress deadline"],
    );
    let cluster = cluster.answers("/v1/job/x/allocations", &json!([]));
    cluster.stops(&["gate", "job", "x", "2", "--within", "0"], &["0 of 2 run; no allocation"]);
}

#[test]
fn a_second_worker_is_seen() {
    let one = json!([allocation("a", "optiplex", "running", 0)]);
    let cluster = Cluster::new().answers("/v1/job/gvfx-worker/allocations", &one);
    cluster.passes(&["gate", "singleton", "gvfx-worker", "--within", "1"], &["1, and never more"]);
    let two = json!([allocation("a", "optiplex", "running", 0), allocation("bb", "epyc", "pending", 0)]);
    let ended = cluster.answers("/v1/job/gvfx-worker/allocations", &two).run(&["validate", "gvfx"]);
    ended.says(&["FAULT  gvfx-worker: 2 live"]);
}

#[test]
fn the_last_run_of_a_periodic_job_is_its_newest_childs() {
    let jobs =
        json!([{ "ID": "x" }, { "ID": "x/periodic-100" }, { "ID": "x/periodic-99" }, { "ID": "x-other" }]);
    let cluster = Cluster::new()
        .answers("/v1/jobs?prefix=x", &jobs)
        .answers("/v1/job/x%2Fperiodic-100/allocations", &json!([allocation("a", "epyc", "complete", 0)]));
    cluster.passes(&["gate", "finished", "x", "--within", "0"], &["x%2Fperiodic-100 has ended well on epyc"]);
    let failed = json!([allocation("a", "epyc", "failed", 0)]);
    let cluster = cluster.answers("/v1/job/x%2Fperiodic-100/allocations", &failed);
    cluster.stops(
        &["gate", "finished", "x", "--within", "0"],
        &["the newest is failed on epyc", "Exit Code: 137"],
    );
}

#[test]
fn the_meta_is_set_where_it_differs() {
    let node = |name: &str| json!({ "Name": name, "ID": format!("id-{name}") });
    let cluster = Cluster::new()
        .answers("/v1/nodes", &json!([node("optiplex"), node("epyc"), node("macmini")]))
        .answers(
            "/v1/node/id-optiplex",
            &json!({ "Meta": { "stateful": "true", "egress_worker": "true", "role": "primary" } }),
        )
        .answers(
            "/v1/node/id-epyc",
            &json!({ "Meta": { "stateful": "true", "role": "primary", "gpu": "true" } }),
        )
        .answers("/v1/node/id-macmini", &json!({ "Meta": { "role": "witness", "rl_tier": "secondary" } }));
    cluster.passes(
        &["meta"],
        &["epyc: role is \"primary\", wanted \"standby\"", "epyc: egress_worker is \"\", wanted \"true\""],
    );
    let changes = cluster.changes();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(
        changes.contains(&"nomad node meta apply -node-id id-epyc role=standby".to_owned()),
        "{changes:?}"
    );
}

#[test]
fn a_secret_in_a_job_is_found_and_not_printed() {
    let secret = "a-long-secret-value";
    let cluster = Cluster::new()
        .holds("nomad/jobs/pg-leader-proxy", &json!({ "probe_password": secret }))
        .answers("/v1/jobs?prefix=pg-leader-proxy", &json!([{ "ID": "pg-leader-proxy", "Stop": false }]))
        .answers("/v1/job/pg-leader-proxy", &json!({ "Env": { "PASSWORD": secret } }));
    let cluster = ["etcd", "timescaledb-ha"]
        .iter()
        .fold(cluster, |cluster, name| cluster.answers(&format!("/v1/jobs?prefix={name}"), &json!([])));
    let ended = cluster.run(&["validate", "vietmarket"]);
    ended.says(&["FAULT  secrets: the job pg-leader-proxy holds the value of", "probe_password"]);
    assert!(!ended.output.contains(secret), "{}", ended.output);
}

#[test]
fn etcd_is_not_wiped_while_it_runs_or_without_a_word() {
    let cluster =
        Cluster::new().answers("/v1/job/etcd/allocations", &json!([allocation("a", "epyc", "running", 0)]));
    cluster.stops(
        &["etcd-wipe", "epyc", "--yes-delete-all-data"],
        &["still runs on epyc", "nomad job stop -purge etcd"],
    );
    let cluster = cluster.answers("/v1/job/etcd/allocations", &json!([]));
    cluster
        .stops(&["etcd-wipe", "epyc"], &["deletes all data of etcd in /opt/etcd", "--yes-delete-all-data"]);
    cluster.stops(&["etcd-wipe", "epcy"], &["no member epcy"]);
}

#[test]
fn a_members_directory_is_emptied_and_a_strange_one_is_not() {
    let cluster = Cluster::new().answers("/v1/job/etcd/allocations", &json!([]));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let site = folder.join("site.vars.hcl").display().to_string();
    let data = cluster.path("etcd");
    fs::create_dir_all(data.join("member/snap")).unwrap();
    let text =
        fs::read_to_string(&site).unwrap().replace("\"/opt/etcd\"", &format!("\"{}\"", data.display()));
    let own = cluster.path("own.vars.hcl");
    fs::write(&own, text).unwrap();
    let own = own.display().to_string();
    fs::write(data.join("somebody.else"), "").unwrap();
    cluster.stops(
        &["--var-file", &own, "etcd-wipe", "epyc", "--yes-delete-all-data"],
        &["somebody.else", "not etcd's"],
    );
    fs::remove_file(data.join("somebody.else")).unwrap();
    cluster.passes(
        &["--dry-run", "--var-file", &own, "etcd-wipe", "epyc", "--yes-delete-all-data"],
        &["+ rm -rf -- "],
    );
    assert!(data.join("member").exists());
    cluster.passes(&["--var-file", &own, "etcd-wipe", "epyc", "--yes-delete-all-data"], &[]);
    assert!(data.exists() && !data.join("member").exists());
}

#[test]
fn a_name_that_no_job_declares_is_rejected_before_anything() {
    let cluster = Cluster::new();
    let typo = cluster.path("typo.vars.hcl");
    fs::write(&typo, "write_prot = 5433").unwrap();
    cluster.stops(
        &["--var-file", &typo.display().to_string(), "deploy", "database"],
        &["no job file declares write_prot"],
    );
}

#[test]
fn a_backup_overwrites_nothing_and_what_is_none_is_not_restored() {
    let cluster = Cluster::new();
    let there = cluster.place.path().display().to_string();
    cluster.stops(&["backup", &there], &["is there already"]);
    cluster.stops(&["restore-rehearsal", &there], &["is no backup"]);
    let manifest = json!({ "sha256": "0", "server": "150000", "timescaledb": "", "rows": {}, "newest": {} });
    fs::write(cluster.path("manifest.json"), manifest.to_string()).unwrap();
    fs::write(cluster.path("vietmarket.dump"), "another dump").unwrap();
    cluster.stops(&["restore-rehearsal", &there], &["is not what the manifest is of"]);
}
