//! `convex-complete.sh`, with a stand-in for `psql`.

use crate::scene::Scene;

const NAMES: [&str; 10] = [
    "CONVEX_CLOUD_ORIGIN",
    "CONVEX_SITE_ORIGIN",
    "S3_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "S3_STORAGE_EXPORTS_BUCKET",
    "S3_STORAGE_SNAPSHOT_IMPORTS_BUCKET",
    "S3_STORAGE_MODULES_BUCKET",
    "S3_STORAGE_FILES_BUCKET",
];

fn scene(psql: &str) -> Scene {
    let mut scene = Scene::new("/bin/sh", "gvfx/convex-complete.sh")
        .stand_in("psql", &format!("echo \"$*\" >>\"$here/calls\"; {psql}"))
        .set("INSTANCE_NAME", "my-gvfx")
        .set("INSTANCE_SECRET", &"0a".repeat(32))
        .set("S3_STORAGE_SEARCH_BUCKET", "search")
        .set("PGHOST", "10.0.0.1")
        .set("PGPORT", "55432")
        .set("PGUSER", "gvfx")
        .set("PGPASSWORD", "secret");
    for name in NAMES {
        scene = scene.set(name, "something");
    }
    scene
}

#[test]
fn everything_there_passes() {
    let scene = scene("echo 1");
    scene.passes(&[]);
    assert!(scene.read("calls").contains("datname = 'my_gvfx'"), "{}", scene.read("calls"));
    assert!(!scene.read("calls").contains("secret"), "{}", scene.read("calls"));
}

#[test]
fn each_missing_setting_is_named_and_all_at_once() {
    for name in NAMES {
        scene("echo 1").set(name, "").refuses(&[], &[&format!("{name} is empty")]);
    }
    let scene = scene("echo 1")
        .set("AWS_REGION", "")
        .set("S3_STORAGE_FILES_BUCKET", "replace-me")
        .set("INSTANCE_SECRET", "short");
    scene.refuses(
        &[],
        &["AWS_REGION is empty", "S3_STORAGE_FILES_BUCKET is still replace-me", "64 hexadecimal digits"],
    );
    assert_eq!(scene.read("calls"), "", "the database was asked with settings missing");
}

#[test]
fn a_password_that_breaks_the_url_is_refused() {
    scene("echo 1").set("PGPASSWORD", "a@b/c").refuses(&[], &["POSTGRES_PASSWORD stand in a URL"]);
}

#[test]
fn a_database_that_is_missing_or_silent_is_told() {
    scene("echo 0").refuses(&[], &["has no database my_gvfx", "CREATE DATABASE my_gvfx"]);
    scene("echo 'connection refused' >&2; exit 2")
        .refuses(&[], &["10.0.0.1:55432: no answer: connection refused"]);
}
