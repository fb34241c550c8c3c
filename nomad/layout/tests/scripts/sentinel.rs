//! `sentinel.sh`: a stateful task starts on the directory that has its data, and on no other.

use std::fs;
use std::os::unix::fs::chown;

use crate::scene::Scene;

fn scene() -> Scene {
    let scene = Scene::new("/bin/sh", "gvfx/sentinel.sh");
    let data = scene.path("data");
    fs::create_dir(&data).unwrap();
    let directory = data.display().to_string();
    scene
        .set("DIRECTORY", &directory)
        .set("FOLDER", "/var/lib/nomad/gvfx/postgres")
        .set("NODE", "optiplex")
        .set("INITIALISE", "false")
        .set("MIN_FREE_GIB", "0")
}

fn mark(scene: &Scene, node: &str) {
    fs::write(scene.path("data/.gvfx-owner"), format!("{node}\n")).unwrap();
}

#[test]
fn the_marked_directory_is_taken() {
    let scene = scene();
    mark(&scene, "optiplex");
    scene.passes(&[]);
}

#[test]
fn another_nodes_data_is_refused() {
    let scene = scene();
    mark(&scene, "epyc");
    scene.refuses(&[], &["the data of the node \"epyc\"", "this is \"optiplex\""]);
}

#[test]
fn an_empty_directory_is_refused_until_it_is_said_to_be_new() {
    let scene = scene();
    scene.refuses(&[], &["has no mark", "-var initialise=true"]);
    let scene = scene.set("INITIALISE", "true");
    fs::create_dir(scene.path("data/lost+found")).unwrap();
    scene.passes(&[]);
    assert_eq!(scene.read("data/.gvfx-owner"), "optiplex\n");
    scene.set("INITIALISE", "false").passes(&[]);
}

#[test]
fn data_without_a_mark_is_not_initialised() {
    let scene = scene().set("INITIALISE", "true");
    fs::write(scene.path("data/PG_VERSION"), "16").unwrap();
    scene.refuses(&[], &["is not empty"]);
    assert!(!scene.path("data/.gvfx-owner").exists());
}

#[test]
fn a_directory_that_is_none_is_refused() {
    scene().set("DIRECTORY", "/no/such").refuses(&[], &["is not a directory"]);
}

#[test]
fn too_little_room_is_refused() {
    let scene = scene().set("MIN_FREE_GIB", "1000000");
    mark(&scene, "optiplex");
    scene.refuses(&[], &["GiB free, 1000000 are wanted"]);
    scene.set("MIN_FREE_GIB", "many").refuses(&[], &["MIN_FREE_GIB=many is not a number"]);
}

#[test]
fn data_of_another_image_is_refused() {
    let scene = scene().set("OWNED", "pgdata").set("OWNED_USER", "nobody");
    mark(&scene, "optiplex");
    scene.passes(&[]);
    let data = scene.path("data/pgdata");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(70), Some(70)).unwrap();
    scene.refuses(&[], &["belongs to uid 70, nobody of this image is 65534"]);
    chown(&data, Some(65534), Some(65534)).unwrap();
    scene.passes(&[]);
}
