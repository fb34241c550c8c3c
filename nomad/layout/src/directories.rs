//! The directories of one node, looked at on that node: Nomad's API does not show them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::layout::Layout;
use crate::preflight::Findings;

/// The user of timescaledb-ha's image.
const IMAGE_USER: u32 = 1000;
/// Stack B's directories, all of them root's: the images' entrypoints change what is below.
const STACK_B: &str = "/var/lib/nomad/gvfx";

/// Looks at the directories that this node needs: those of etcd, of the database and, with `stack_b`, of Stack B.
///
/// # Errors
/// When one is missing, belongs to another user, is open to others, or has less room than this, in GiB.
pub fn run(layout: &Layout, node: &str, stack_b: bool, free: u64) -> Result<()> {
    let site = &layout.site;
    let mut findings = Findings::new(layout);
    let mut look = |path: &str, owner: Result<u32>| {
        findings.look(path, owner.and_then(|owner| directory(layout, Path::new(path), owner, free)));
    };
    let mut known = false;
    if let Some(member) = site.etcd_members.iter().find(|member| member.node == node) {
        known = true;
        look(&member.data_dir, uid(layout, &member.user, 0));
    }
    if site.db_nodes.iter().any(|database| database.node == node) {
        known = true;
        let image = if site.db_runtime == "docker" { IMAGE_USER } else { 0 };
        look(&site.db_data_dir, uid(layout, &site.db_user, image));
        findings.look("data", data(&Path::new(&site.db_data_dir).join("data"), &site.db_bin_dir));
    }
    if stack_b {
        known = true;
        for name in ["postgres", "objectstore", "convex", "backup", "tailscale"] {
            findings.look(name, directory(layout, &Path::new(STACK_B).join(name), 0, free));
        }
    }
    ensure!(known, "neither etcd_members nor db_nodes names {node}");
    findings.end("directories")
}

/// The number of a user; the given one when there is no name.
fn uid(layout: &Layout, user: &str, default: u32) -> Result<u32> {
    if user.is_empty() {
        return Ok(default);
    }
    layout.shell.look(&["id", "-u", user])?.trim().parse().with_context(|| format!("the number of {user}"))
}

fn directory(layout: &Layout, path: &Path, owner: u32, free: u64) -> Result<String> {
    let shown = path.display().to_string();
    let Ok(metadata) = std::fs::metadata(path) else {
        bail!("missing: sudo install -d -m 700 -o {owner} {shown}");
    };
    ensure!(metadata.is_dir(), "{shown} is not a directory");
    ensure!(
        metadata.uid() == owner,
        "belongs to uid {}, not {owner}: sudo chown -R {owner} {shown}",
        metadata.uid()
    );
    ensure!(metadata.mode() & 0o022 == 0, "others may write there: sudo chmod go-w {shown}");
    let table = layout.shell.look(&["df", "-Pk", &shown])?;
    let kilobytes: u64 = table
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
        .with_context(|| format!("df says {table}"))?;
    ensure!(kilobytes >> 20 >= free, "{} GiB free, {free} wanted", kilobytes >> 20);
    Ok(format!("uid {owner}, {} GiB free", kilobytes >> 20))
}

/// Existing data, of the major that will run, with its system identifier: the same on both nodes, or they are two clusters.
fn data(path: &Path, bin_dir: &str) -> Result<String> {
    let Ok(major) = std::fs::read_to_string(path.join("PG_VERSION")) else {
        return Ok("none yet".to_owned());
    };
    let major = major.trim();
    ensure!(
        bin_dir.split('/').any(|part| part == major),
        "of PostgreSQL {major}, and db_bin_dir is {bin_dir}: db_image must be of the data's major"
    );
    let role = if path.join("standby.signal").exists() { "a replica's" } else { "a primary's" };
    // The first field of pg_control: uint64 system_identifier (PostgreSQL's catalog/pg_control.h).
    let control = std::fs::read(path.join("global/pg_control")).context("reading pg_control")?;
    let first = control.first_chunk::<8>().context("pg_control is too short")?;
    Ok(format!("PostgreSQL {major}, {role}, system identifier {}", u64::from_le_bytes(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_data_is_told_by_major_role_and_identifier() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        assert_eq!(data(path, "/usr/lib/postgresql/16/bin").unwrap(), "none yet");
        std::fs::write(path.join("PG_VERSION"), "16\n").unwrap();
        std::fs::create_dir(path.join("global")).unwrap();
        std::fs::write(path.join("global/pg_control"), 7_400_000_000_000_000_001_u64.to_le_bytes()).unwrap();
        let told = data(path, "/usr/lib/postgresql/16/bin").unwrap();
        assert_eq!(told, "PostgreSQL 16, a primary's, system identifier 7400000000000000001");
        let error = data(path, "/usr/lib/postgresql/17/bin").unwrap_err().to_string();
        assert!(error.contains("of PostgreSQL 16, and db_bin_dir is /usr/lib/postgresql/17/bin"), "{error}");
        std::fs::write(path.join("standby.signal"), "").unwrap();
        assert!(data(path, "/usr/lib/postgresql/16/bin").unwrap().contains("a replica's"));
    }

    #[test]
    fn a_directory_is_there_ours_closed_and_has_room() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let layout = Layout::open(&folder, &[], crate::shell::Shell { dry_run: false }).unwrap();
        let owner = std::fs::metadata(place.path()).unwrap().uid();
        let look = |owner, free| directory(&layout, place.path(), owner, free);
        look(owner, 0).unwrap();
        for (faulty, words) in [
            (look(owner + 1, 0), "sudo chown -R"),
            (look(owner, 1 << 40), "GiB free, 1099511627776 wanted"),
            (directory(&layout, &place.path().join("no"), owner, 0), "missing: sudo install -d"),
        ] {
            let error = faulty.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(look(owner, 0).unwrap_err().to_string().contains("chmod go-w"));
    }
}
