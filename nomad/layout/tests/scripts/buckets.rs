//! `buckets.sh`, with a stand-in for MinIO's client.

use crate::scene::Scene;

/// `mc` with the buckets as directories; the first `refuse-first` tries to log in fail.
const MC: &str = r#"
echo "mc $*" >>"$here/calls"
case $1 in
alias)
  cat >"$here/keys"
  left=$(cat "$here/refuse-first" 2>/dev/null || echo 0)
  if [ "$left" -gt 0 ]; then echo $((left - 1)) >"$here/refuse-first"; exit 1; fi ;;
mb) [ ! -e "$here/full" ] && mkdir -p "$here/${3}" ;;
ls) [ -d "$here/$2" ] ;;
mirror) cp -r "$here/$4/." "$5" ;;
esac
"#;

fn scene() -> Scene {
    Scene::new("/bin/sh", "gvfx/buckets.sh")
        .stand_in("mc", MC)
        .set("STORE_URL", "http://10.0.0.1:9000")
        .set("STORE_USER", "admin")
        .set("STORE_PASSWORD", "secret-password")
        .set("STORE_TRIES", "3")
        .set("STORE_DELAY", "0")
        .set("BUCKETS", "exports modules files")
}

#[test]
fn missing_buckets_are_made_and_then_found() {
    let scene = scene();
    scene.refuses(&["check"], &["there is no bucket exports"]);
    scene.passes(&["make"]);
    scene.passes(&["make"]);
    scene.passes(&["check"]);
    assert_eq!(scene.read("keys"), "admin\nsecret-password\n");
    assert!(!scene.read("calls").contains("secret-password"), "{}", scene.read("calls"));
}

#[test]
fn a_store_that_comes_late_is_waited_for_within_a_bound() {
    let scene = scene();
    std::fs::write(scene.path("refuse-first"), "2").unwrap();
    scene.passes(&["make"]);
    std::fs::write(scene.path("refuse-first"), "3").unwrap();
    scene.refuses(&["make"], &["does not answer, or rejects the keys, after 3 tries"]);
}

#[test]
fn a_bucket_that_cannot_be_made_fails() {
    let scene = scene();
    std::fs::write(scene.path("full"), "").unwrap();
    scene.refuses(&["make"], &["could not make the bucket exports"]);
}

#[test]
fn the_buckets_are_copied() {
    let scene = scene();
    scene.passes(&["make"]);
    std::fs::write(scene.path("store/files/one"), "content").unwrap();
    scene.passes(&["mirror", &scene.path("copy").display().to_string()]);
    assert_eq!(scene.read("copy/files/one"), "content");
}

#[test]
fn what_is_missing_is_named() {
    scene().set("STORE_URL", "").set("BUCKETS", "").refuses(&["make"], &["not set: STORE_URL BUCKETS"]);
    scene().set("STORE_USER", "ab").refuses(&["make"], &["less than 3 characters"]);
    scene().set("STORE_PASSWORD", "short").refuses(&["make"], &["less than 8 characters"]);
    scene().refuses(&["mak"], &["not \"mak\""]);
    scene().refuses(&["mirror"], &["needs a directory"]);
}
