//! Which exit node the guard takes, and what it does not take for a success.

use std::time::Duration;

use crate::scene::{Ended, Scene, status};

fn passes(scene: &Scene) -> Ended {
    let ended = scene.run(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    ended
}

fn fails(scene: &Scene) -> Ended {
    let ended = scene.run(&[]);
    assert_eq!(ended.code, Some(4), "{}", ended.log);
    assert_eq!(scene.read("state"), "", "a failure has written the state");
    assert!(
        !scene.read("current").is_empty() || scene.selected().is_empty() || ended.log.contains("set-failed")
    );
    assert!(!scene.calls().contains("--exit-node= "), "the exit node was cleared: {}", scene.calls());
    ended
}

#[test]
fn the_primary_is_taken_and_no_fallback_is_touched() {
    let scene = Scene::new();
    let ended = passes(&scene);
    assert_eq!(scene.selected(), ["primary"]);
    assert!(scene.calls().contains("--exit-node-allow-lan-access=false"));
    let state = scene.read("state");
    for line in ["SELECTED_EXIT_NODE=primary", "OBSERVED_EGRESS_IP=203.0.113.1", "VALIDATED_AT=20"] {
        assert!(state.contains(line), "{state}");
    }
    for event in [
        "start candidates=primary,fallback expected=203.0.113.1",
        "tailscaled ready",
        "try node=primary n=1/1",
    ] {
        assert!(ended.log.contains(event), "{event}: {}", ended.log);
    }
    assert!(ended.log.contains("selected node=primary egress=203.0.113.1"));
}

#[test]
fn a_refused_primary_makes_room_for_the_fallback() {
    let scene = Scene::new().with("set-refused.primary", "");
    let ended = passes(&scene);
    assert!(ended.log.contains("rejected node=primary reason=set-failed"));
    assert!(scene.read("state").contains("SELECTED_EXIT_NODE=fallback"));
}

#[test]
fn an_offline_primary_is_tried_and_left() {
    let scene = Scene::new().set("TS_GUARD_TRIES", "3").with("status.primary", &status("primary", false));
    let ended = passes(&scene);
    assert!(ended.log.contains("try node=primary n=3/3"), "{}", ended.log);
    assert!(ended.log.contains("rejected node=primary reason=offline"));
    assert_eq!(scene.selected(), ["primary", "fallback"]);
}

#[test]
fn a_wrong_address_is_final_for_a_node() {
    let scene = Scene::new().set("TS_GUARD_TRIES", "3").with("answer.primary", "198.51.100.7");
    let ended = passes(&scene);
    assert!(ended.log.contains("reason=address-not-expected observed=198.51.100.7"));
    assert!(!ended.log.contains("try node=primary n=2/3"), "{}", ended.log);
}

#[test]
fn fallbacks_are_tried_in_order() {
    let scene = Scene::new()
        .set("TS_EXIT_NODE_FALLBACKS", "b,c,d")
        .node("d")
        .with("set-refused.primary", "")
        .with("status.b", &status("b", false))
        .with("status.c", &status("c", true))
        .with("answer.c", "198.51.100.7");
    passes(&scene);
    assert_eq!(scene.selected(), ["primary", "b", "c", "d"]);
}

#[test]
fn all_offline_fails() {
    let scene = Scene::new()
        .with("status.primary", &status("primary", false))
        .with("status.fallback", &status("fallback", false));
    let ended = fails(&scene);
    assert!(ended.log.contains("failed tried=primary,fallback reason=no-candidate-passed"));
}

#[test]
fn no_expected_address_anywhere_fails_and_the_exit_node_stays_set() {
    let scene = Scene::new().with("answer.primary", "198.51.100.7").with("answer.fallback", "198.51.100.8");
    fails(&scene);
    assert_eq!(scene.read("current").trim(), "fallback");
}

#[test]
fn wget_will_do() {
    let scene = Scene::new().without_tool("curl");
    passes(&scene);
    assert!(scene.calls().contains("wget "));
}

#[test]
fn a_status_that_is_no_json_or_cut_off_fails() {
    for text in ["no JSON", &status("primary", true)[..80], ""] {
        let scene = Scene::new().with("status.primary", text).with("status.fallback", text);
        fails(&scene);
    }
}

#[test]
fn a_status_without_an_exit_node_fails() {
    let scene =
        Scene::new().with("status.primary", &status("", true)).with("status.fallback", &status("", true));
    let ended = fails(&scene);
    assert!(ended.log.contains("rejected node=primary reason=offline"));
}

#[test]
fn another_active_exit_node_is_no_success() {
    let scene = Scene::new()
        .with("status.primary", &status("other", true))
        .with("status.fallback", &status("other", true));
    let ended = fails(&scene);
    assert!(ended.log.contains("rejected node=primary reason=other-node-active"), "{}", ended.log);
}

#[test]
fn the_second_url_answers_when_the_first_hangs() {
    let scene = Scene::new()
        .set("TS_EGRESS_CHECK_URLS", "https://one.test, https://two.test/ip")
        .with("answer.one.test.hangs", "")
        .with("answer.primary.two.test", "203.0.113.1");
    let ended = passes(&scene);
    assert!(ended.took >= Duration::from_secs(2), "the first URL was not asked");
    assert_eq!(scene.selected(), ["primary"]);
}

#[test]
fn urls_that_all_hang_cost_their_bound_and_no_more() {
    let scene = Scene::new()
        .set("TS_EXIT_NODE_FALLBACKS", "")
        .set("TS_GUARD_TRIES", "2")
        .with("answer.one.test.hangs", "");
    let ended = fails(&scene);
    assert!(ended.log.contains("reason=no-address"));
    assert!(ended.took >= Duration::from_secs(4), "two tries of 2 s took {:?}", ended.took);
}

#[test]
fn a_page_an_empty_answer_and_a_flood_are_no_address() {
    for body in ["<html>203.0.113.1</html>", "", "203.0.113.1 extra", &"1".repeat(10 << 20)] {
        let scene = Scene::new().with("answer.primary", body).with("answer.fallback", body);
        let ended = fails(&scene);
        assert!(ended.log.contains("reason=no-address"), "{}", ended.log);
        assert!(ended.log.len() < 4096, "{} bytes of log", ended.log.len());
    }
}

#[test]
fn an_address_that_only_begins_alike_is_not_expected() {
    let scene = Scene::new().with("answer.primary", "203.0.113.10").with("answer.fallback", "203.0.113.10");
    fails(&scene);
}

#[test]
fn blanks_and_line_ends_do_not_matter() {
    let scene = Scene::new()
        .set("TS_EXIT_NODE_PRIMARY", " primary\r\n")
        .set("TS_EGRESS_EXPECTED_IPS", " 198.51.100.1 ,\t203.0.113.1\r\n")
        .with("answer.primary", " 203.0.113.1\r\n");
    passes(&scene);
}

#[test]
fn ipv6_is_compared_as_an_address() {
    for (expected, answer) in [
        ("2001:db8::1", "2001:DB8:0:0:0:0:0:1"),
        ("2001:DB8:0::1", "2001:db8::0001"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("2001:db8::", "2001:db8:0:0:0:0:0:0"),
    ] {
        let scene = Scene::new().set("TS_EGRESS_EXPECTED_IPS", expected).with("answer.primary", answer);
        passes(&scene);
    }
    let scene =
        Scene::new().set("TS_EGRESS_EXPECTED_IPS", "2001:db8::1").with("answer.primary", "2001:db8::10");
    fails(&scene.with("answer.fallback", "2001:db8::11"));
}

#[test]
fn a_candidate_named_twice_is_tried_once() {
    let scene = Scene::new()
        .set("TS_EXIT_NODE_FALLBACKS", "primary,fallback,primary")
        .with("set-refused.primary", "");
    passes(&scene);
    assert_eq!(scene.selected(), ["primary", "fallback"]);
}

#[test]
fn a_state_file_that_cannot_be_written_fails_after_a_good_validation() {
    let scene = Scene::new();
    let nowhere = scene.path("no-such-directory/state").display().to_string();
    let scene = scene.set("TS_GUARD_STATE_FILE", &nowhere);
    let ended = scene.run(&[]);
    assert_eq!(ended.code, Some(6), "{}", ended.log);
    assert!(!ended.log.contains("selected node="), "{}", ended.log);
}

#[test]
fn a_node_is_known_by_name_or_address_and_not_by_a_part_of_it() {
    for name in ["PRIMARY", "primary.tail.ts.net", "primary.tail.ts.net.", "100.64.0.1", "fd7a:115c::1"] {
        let scene = Scene::new().set("TS_EXIT_NODE_PRIMARY", name).with("status", &status("primary", true));
        let scene = scene.set("TS_EXIT_NODE_FALLBACKS", "").with("answer", "203.0.113.1");
        passes(&scene);
    }
    for name in ["prim", "primary.tail", "100.64.0.10", "100.64.0.1/32"] {
        let scene = Scene::new().set("TS_EXIT_NODE_PRIMARY", name).with("status", &status("primary", true));
        let ended = fails(&scene.set("TS_EXIT_NODE_FALLBACKS", "").with("answer", "203.0.113.1"));
        assert!(ended.log.contains("other-node-active"), "{}", ended.log);
    }
}
