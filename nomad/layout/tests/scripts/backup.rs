//! `backup.sh`, with stand-ins for PostgreSQL's programs.

use std::fs;
use std::process::Command;

use crate::scene::Scene;

const DUMP: &str = r#"
for argument; do case $argument in --file=*) file=${argument#--file=} ;; esac; done
[ ! -e "$here/dump-fails" ] || exit 1
printf %s "${DUMP_CONTENT-content}" >"$file""#;

fn scene() -> Scene {
    let scene = Scene::new("/bin/sh", "gvfx/backup.sh")
        .stand_in("pg_dump", DUMP)
        .stand_in("pg_restore", "grep -q content \"$2\"")
        .set("KEEP_DAYS", "14");
    let directory = scene.path("backup");
    fs::create_dir(&directory).unwrap();
    let directory = directory.display().to_string();
    ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]
        .iter()
        .fold(scene.set("DIRECTORY", &directory), |scene, name| scene.set(name, "x"))
}

fn dumps(scene: &Scene) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(scene.path("backup"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An old dump, by its time of change.
fn old(scene: &Scene, name: &str, days: u32) {
    let file = scene.path("backup").join(name);
    fs::write(&file, "old content").unwrap();
    let when = format!("{days} days ago");
    assert!(Command::new("touch").args(["-d", &when]).arg(&file).status().unwrap().success());
}

#[test]
fn a_good_dump_is_kept_and_old_ones_go() {
    let scene = scene();
    old(&scene, "postgres-20200101T000000Z.dump", 30);
    old(&scene, "postgres-20260101T000000Z.dump", 3);
    old(&scene, "notes.txt", 30);
    scene.passes(&[]);
    let names = dumps(&scene);
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names.contains(&"notes.txt".to_owned())
            && names.contains(&"postgres-20260101T000000Z.dump".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_failure_leaves_the_last_good_one() {
    for (fault, words) in
        [("fails", "pg_dump failed"), ("empty", "the dump is empty"), ("broken", "cannot be listed")]
    {
        let scene = scene();
        old(&scene, "postgres-20200101T000000Z.dump", 30);
        let scene = match fault {
            "fails" => {
                fs::write(scene.path("dump-fails"), "").unwrap();
                scene
            }
            "empty" => scene.set("DUMP_CONTENT", ""),
            _ => scene.set("DUMP_CONTENT", "cut o"),
        };
        scene.refuses(&[], &[words]);
        assert_eq!(dumps(&scene), ["postgres-20200101T000000Z.dump"]);
    }
}

#[test]
fn what_is_missing_is_named() {
    scene().set("PGDATABASE", "").refuses(&[], &["PGDATABASE is empty"]);
    scene().set("KEEP_DAYS", "-1").refuses(&[], &["KEEP_DAYS=-1 is not a number"]);
    scene().set("DIRECTORY", "/no/such").refuses(&[], &["there is no directory /no/such"]);
}
