//! The messages of the control socket.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control_socket::answers::{
    ClusterAnswer, DoneAnswer, LogRequest, MemberRequest, RefusedAnswer, SessionsAnswer, SessionsRequest,
    TerminateRequest,
};

/// What was read as a message is the same message when it is written and read again.
///
/// # Panics
/// If that is not so.
pub fn control_messages(data: &[u8]) {
    again::<MemberRequest>(data);
    again::<TerminateRequest>(data);
    again::<LogRequest>(data);
    again::<SessionsRequest>(data);
    again::<ClusterAnswer>(data);
    again::<DoneAnswer>(data);
    again::<RefusedAnswer>(data);
    again::<SessionsAnswer>(data);
}

fn again<T: Debug + PartialEq + Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<T>(data) {
        let written = serde_json::to_vec(&message).unwrap();
        assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), message);
    }
}
