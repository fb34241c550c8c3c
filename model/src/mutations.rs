//! The mutations: each a rule of the core that somebody might think superfluous.

/// A rule that is broken by a patch.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// The rule as it then is.
    pub name: &'static str,
    /// The file of `proxy/core/src` that is patched.
    pub file: &'static str,
    /// What is there, once.
    pub find: &'static str,
    /// What takes its place.
    pub replace: &'static str,
    /// The setup in which it shows.
    pub setup: &'static str,
    /// The law that it breaks.
    pub law: u8,
}

const LEASE: &str = "two members";
const ALL_MEMBERS: &str = "all members without etcd";
const NOBODY_ELSE: &str = "nobody to succeed";

/// Every mutation that the search must find out.
pub const MUTATIONS: [Mutation; 12] = [
    Mutation {
        name: "the margin is not subtracted from the lease",
        file: "leadership/mod.rs",
        find: "lease.end() - self.policy.options().lease_margin);",
        replace: "lease.end());",
        setup: LEASE,
        law: 3,
    },
    Mutation {
        name: "a lease counts from when its answer arrived",
        file: "evidence/mod.rs",
        find: "LeaseEvidence { create_revision: key.create_revision, remaining }",
        replace: "LeaseEvidence { create_revision: key.create_revision, remaining: Stamped { sent: seen, ..remaining } }",
        setup: LEASE,
        law: 3,
    },
    Mutation {
        name: "a reply from before the key was seen is accepted",
        file: "leadership/lease.rs",
        find: "self.present_reply(holder, view, key.sent)?",
        replace: "self.present_reply(holder, view, Moment::default())?",
        setup: LEASE,
        law: 3,
    },
    Mutation {
        name: "a vacancy is forgotten when etcd falls silent",
        file: "leadership/mod.rs",
        find: "(Dcs::Live | Dcs::Silent(_), None) => Err(Reason::NoLeader),",
        replace: "(Dcs::Live, None) => Err(Reason::NoLeader), (_, None) => self.without_dcs(),",
        setup: NOBODY_ELSE,
        law: 7,
    },
    Mutation {
        name: "a deleted key ends nothing",
        file: "evidence/mod.rs",
        find: "            self.leader_key = None;\n            self.lease = None;\n",
        replace: "",
        setup: LEASE,
        law: 2,
    },
    Mutation {
        name: "the number of an epoch is used again",
        file: "router.rs",
        find: "if !proof.continues {",
        replace: "if !proof.continues && self.last_epoch == RouteEpoch::default() {",
        setup: LEASE,
        law: 2,
    },
    Mutation {
        name: "all-members rule: a member that is silent does not count",
        file: "leadership/all_members.rs",
        find: "let (reply, end) = self.vote(name, view)?;",
        replace: "let Ok((reply, end)) = self.vote(name, view) else { continue };",
        setup: ALL_MEMBERS,
        law: 3,
    },
    Mutation {
        name: "all-members rule: any primary will do, whoever held the key last",
        file: "leadership/all_members.rs",
        find: "if last_holder.is_some_and(|holder| holder != primary.member) {",
        replace: "if false {",
        setup: ALL_MEMBERS,
        law: 7,
    },
    Mutation {
        name: "a stepped wall clock is ignored",
        file: "evidence/mod.rs",
        find: "Observation::ClockStepped { at } => self.clock_stepped = self.clock_stepped.max(Some(at)),",
        replace: "Observation::ClockStepped { .. } => {}",
        setup: LEASE,
        law: 3,
    },
    Mutation {
        name: "a leader that does not answer in time is lost",
        file: "leadership/lease.rs",
        find: "if view.is_down() {\n            return",
        replace: "if view.is_down() || view.failure.is_some() {\n            return",
        setup: LEASE,
        law: 8,
    },
    Mutation {
        name: "one refused new connection means that the server is down",
        file: "evidence/view.rs",
        find: "self.record_refusal(Stamped { sent, fact: failure })",
        replace: "self.record_failure(Stamped { sent, fact: failure })",
        setup: LEASE,
        law: 8,
    },
    Mutation {
        name: "a server that was down once is not believed again",
        file: "evidence/view.rs",
        find: "if Some(reply.sent) >= self.last_reply().max(self.down) {",
        replace: "if self.down.is_none() && Some(reply.sent) >= self.last_reply() {",
        setup: LEASE,
        law: 6,
    },
];
