//! Removes a member's data on the node where this runs: the last resort when a new cluster cannot be formed.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::layout::Layout;

/// Empties the directory of a member. Patroni's record of the cluster goes with etcd's data; PostgreSQL's own data does not.
///
/// # Errors
/// When the job still has a live allocation, the deletion was not confirmed, or the directory does not look like etcd's.
pub fn run(layout: &Layout, member: &str, confirmed: bool) -> Result<()> {
    let known = layout.site.etcd_members.iter().find(|known| known.name == member);
    let known = known.with_context(|| format!("there is no member {member} in etcd_members"))?;
    let live: Vec<_> =
        layout.nomad.allocations("etcd")?.into_iter().filter(crate::nomad::Allocation::is_live).collect();
    ensure!(live.is_empty(), "the job etcd still runs on {}: nomad job stop -purge etcd", live[0].node_name);
    ensure!(
        confirmed,
        "this deletes all data of etcd in {}, and Patroni's record of who leads: --yes-delete-all-data",
        known.data_dir
    );
    empty(layout, Path::new(&known.data_dir))
}

fn empty(layout: &Layout, folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}: is this the member's node?", folder.display()))?;
    let names: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let strange = names
        .iter()
        .find(|path| path.file_name().is_none_or(|name| name != "member" && name != "lost+found"));
    ensure!(strange.is_none(), "{} holds {strange:?}, which is not etcd's", folder.display());
    for path in names.iter().filter(|path| path.ends_with("member")) {
        let path = path.display().to_string();
        layout.shell.act(&["rm", "-rf", "--", &path])?;
    }
    Ok(())
}
