//! The commands for the control socket of a running proxy: `sessions`, `pause`, `resume`, `drain`, `undrain`, `terminate`,
//! `reload` and `log-level`.

use std::io::Write;

use anyhow::Context as _;
use clap::ArgMatches;
use http::StatusCode;
use pg_leader_proxy_core::display::{Counted, HumanBytes, HumanDuration};
use serde::Serialize;

use super::Start;
use super::exit::Exit;
use super::http::post;
use super::running::{RunningProxy, running_proxy};
use super::table::{Table, or_dash};
use crate::control_socket::answers::{
    DoneAnswer, LogRequest, MemberRequest, RefusedAnswer, SessionAnswer, SessionsAnswer, SessionsRequest,
    TerminateRequest,
};

/// What to do about a configuration without a control socket.
const NO_SOCKET: &str = "the configuration names no control socket: set `control.socket` for the proxy, and name the same \
                         configuration here with --config, or the socket with --socket";

/// Carries out the command `name`.
pub(super) fn operate(
    name: &str,
    start: &Start,
    matches: &ArgMatches,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> anyhow::Result<Exit> {
    let proxy = match running_proxy(matches, start) {
        Ok(Some(proxy)) => proxy,
        Ok(None) => {
            writeln!(err, "pg-leader-proxy: {NO_SOCKET}")?;
            return Ok(Exit::Configuration);
        }
        Err(errors) => {
            errors.iter().try_for_each(|error| writeln!(err, "{error}"))?;
            return Ok(Exit::Configuration);
        }
    };
    let text = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
    let member = || MemberRequest { member: text("member").unwrap_or_default() };
    let answer = match name {
        "sessions" => {
            let wanted = SessionsRequest {
                member: text("member"),
                user: text("user"),
                state: text("state"),
                route: text("route"),
            };
            send(&proxy, "/sessions", &wanted)
        }
        "drain" | "undrain" => send(&proxy, &format!("/{name}"), &member()),
        "terminate" => send(&proxy, "/terminate", &chosen(matches)),
        "log-level" => send(&proxy, "/log", &LogRequest { filter: text("filter").unwrap_or_default() }),
        _ => send(&proxy, &format!("/{name}"), &serde_json::json!({})),
    };
    match answer {
        Ok((StatusCode::OK, body)) if name == "sessions" => {
            print_sessions(&body, matches.get_flag("json"), out)?;
            Ok(Exit::Success)
        }
        Ok((StatusCode::OK, body)) => {
            let done: DoneAnswer = serde_json::from_str(&body).context(OTHER_VERSION)?;
            writeln!(out, "{}", done.message)?;
            Ok(Exit::Success)
        }
        Ok((status, body)) => {
            let refused = serde_json::from_str(&body).map(|RefusedAnswer { error }| error);
            writeln!(
                err,
                "pg-leader-proxy: refused: {}",
                refused.unwrap_or_else(|_| format!("{status}: {}", body.trim()))
            )?;
            Ok(Exit::Failure)
        }
        Err(error) => {
            writeln!(err, "pg-leader-proxy: {error:#}")?;
            Ok(Exit::Unreachable)
        }
    }
}

const OTHER_VERSION: &str = "the proxy is of another version, whose answer this one cannot read";

fn send(proxy: &RunningProxy, path: &str, request: &impl Serialize) -> anyhow::Result<(StatusCode, String)> {
    post(&proxy.socket, proxy.cluster.as_deref(), path, serde_json::to_string(request)?)
}

/// The sessions to end; clap has seen to it that exactly one choice is given.
fn chosen(matches: &ArgMatches) -> TerminateRequest {
    let text = |id: &str| matches.get_one::<String>(id).cloned();
    match (matches.get_one::<u64>("session"), text("member"), text("user")) {
        (Some(session), ..) => TerminateRequest::Session(*session),
        (None, Some(member), _) => TerminateRequest::Member(member),
        (None, None, user) => TerminateRequest::User(user.unwrap_or_default()),
    }
}

fn print_sessions(body: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        let answer: serde_json::Value = serde_json::from_str(body)?;
        writeln!(out, "{answer:#}")?;
        return Ok(());
    }
    let answer: SessionsAnswer = serde_json::from_str(body).context(OTHER_VERSION)?;
    let mut table = Table::new([
        "id",
        "client",
        "route",
        "state",
        "member",
        "port",
        "user",
        "database",
        "application",
        "age",
        "idle",
        "to server",
        "to client",
    ]);
    answer.sessions.iter().for_each(|session| table.push(row(session)));
    table.print(out, "")?;
    let left_out = answer.total - answer.sessions.len() as u64;
    if left_out > 0 {
        writeln!(out, "and {left_out} more; choose with --member, --user, --state or --route")?;
    }
    writeln!(out, "{}", Counted(answer.total, "session"))?;
    Ok(())
}

fn row(session: &SessionAnswer) -> [String; 13] {
    [
        session.id.to_string(),
        session.client.clone(),
        session.route.clone(),
        session.state.clone(),
        or_dash(session.member.as_ref()),
        or_dash(session.server_port),
        or_dash(session.user.as_ref()),
        or_dash(session.database.as_ref()),
        or_dash(session.application_name.as_ref().filter(|name| !name.is_empty())),
        HumanDuration::from_millis(session.age_ms).to_string(),
        or_dash(session.idle_ms.map(HumanDuration::from_millis)),
        HumanBytes(session.bytes_to_server).to_string(),
        HumanBytes(session.bytes_to_client).to_string(),
    ]
}
