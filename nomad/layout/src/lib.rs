//! Deploys, checks, drills and rolls back the layout of this folder on a Nomad cluster.
