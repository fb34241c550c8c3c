//! Input that the guard refuses, all of it at once, before anything is changed.

use crate::scene::Scene;

/// Runs and wants exit 2, nothing called, and each of the words in the log.
fn refused(scene: &Scene, arguments: &[&str], words: &[&str]) {
    let ended = scene.run(arguments);
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert_eq!(scene.calls(), "", "something was changed");
    for word in words {
        assert!(ended.log.contains(word), "{word:?} is not in: {}", ended.log);
    }
}

#[test]
fn a_missing_primary_is_named() {
    refused(&Scene::new().set("TS_EXIT_NODE_PRIMARY", ""), &[], &["TS_EXIT_NODE_PRIMARY"]);
    refused(&Scene::new().set("TS_EXIT_NODE_PRIMARY", "  "), &[], &["TS_EXIT_NODE_PRIMARY"]);
}

#[test]
fn no_expected_address_is_refused() {
    for value in ["", " , ,, "] {
        refused(&Scene::new().set("TS_EGRESS_EXPECTED_IPS", value), &[], &["TS_EGRESS_EXPECTED_IPS"]);
    }
}

#[test]
fn an_expected_address_that_is_none_is_quoted() {
    for value in [
        "gateway",
        "203.0.113.256",
        "203.0.113",
        "203.0.113.01",
        "1:2:3",
        "1::2::3",
        "12345::",
        ":::",
        "1:2:3:4:5:6:7:8:9",
    ] {
        let list = format!("203.0.113.1,{value}");
        refused(&Scene::new().set("TS_EGRESS_EXPECTED_IPS", &list), &[], &[&format!("\"{value}\"")]);
    }
}

#[test]
fn a_missing_tool_is_named() {
    refused(&Scene::new().without_tool("jq"), &[], &["no jq"]);
    refused(&Scene::new().without_tool("tailscale"), &[], &["no tailscale"]);
    refused(&Scene::new().without_tool("curl").without_tool("wget"), &[], &["neither curl nor wget"]);
}

#[test]
fn a_bound_that_is_no_number_or_out_of_range_is_refused() {
    for value in ["0", "-1", "x", "21", "1.5", " 3"] {
        refused(&Scene::new().set("TS_GUARD_TRIES", value), &[], &["TS_GUARD_TRIES", "from 1 to 20"]);
    }
    refused(&Scene::new().set("TS_GUARD_DEADLINE", "0"), &[], &["TS_GUARD_DEADLINE"]);
}

#[test]
fn an_unknown_argument_and_a_bad_interval_are_refused() {
    refused(&Scene::new(), &["--wach", "5"], &["--wach"]);
    refused(&Scene::new(), &["--watch"], &["--watch wants seconds"]);
    refused(&Scene::new(), &["--watch", "0"], &["--watch wants seconds"]);
}

#[test]
fn a_check_by_plain_http_is_refused() {
    refused(&Scene::new().set("TS_EGRESS_CHECK_URLS", "http://one.test"), &[], &["not an https URL"]);
}

#[test]
fn every_fault_is_named_at_once() {
    let scene = Scene::new()
        .set("TS_EXIT_NODE_PRIMARY", "")
        .set("TS_EGRESS_EXPECTED_IPS", "x")
        .set("TS_GUARD_TRIES", "many");
    refused(&scene.without_tool("jq"), &[], &["TS_EXIT_NODE_PRIMARY", "\"x\"", "TS_GUARD_TRIES", "no jq"]);
}
