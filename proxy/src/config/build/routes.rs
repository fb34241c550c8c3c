//! Where the proxy listens, and how clients wait there.

use std::net::SocketAddr;

use super::super::checked::{AdminAccess, ControlSocket, Route};
use super::super::keys::Block;
use super::super::values;
use super::reader::{Invalid, Reader};

pub(super) fn write(reader: &mut Reader<'_>) -> Result<Route, Invalid> {
    let route = route(reader, "write")?;
    match route.listen.is_empty() {
        false => Ok(route),
        true => Err(reader.fault("write.listen", "names no address".to_owned())),
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Result<Option<Route>, Invalid> {
    let route = route(reader, "read")?;
    if !route.listen.is_empty() {
        return Ok(Some(route));
    }
    for key in Block::find("read").into_iter().flat_map(Block::keys) {
        if key.path != "read.listen" && reader.is_given(key.path) {
            reader
                .fault(key.path, "has no effect without `read.listen`; give that, or remove this".to_owned());
        }
    }
    Ok(None)
}

pub(super) fn admin(reader: &mut Reader<'_>) -> Result<Option<SocketAddr>, Invalid> {
    let listen = reader.optional("admin.listen", |text| match text {
        "off" | "" => Ok(None),
        address => values::listen(address).map(Some),
    })?;
    Ok(listen.flatten())
}

pub(super) fn admin_access(reader: &mut Reader<'_>) -> Result<AdminAccess, Invalid> {
    let (allowed_networks, token) =
        (reader.networks("admin.allowed_networks"), reader.secret("admin.token_file"));
    let token = match token? {
        // A header carries it (RFC 9110, section 5.5).
        Some(token) if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
            let problem = "the file holds something else than one word of visible ASCII characters";
            return Err(reader.fault("admin.token_file", problem.to_owned()));
        }
        token => token,
    };
    Ok(AdminAccess { allowed_networks: allowed_networks?, token })
}

pub(super) fn control(reader: &mut Reader<'_>) -> Result<Option<ControlSocket>, Invalid> {
    let (socket, group) = (reader.optional_text("control.socket"), reader.optional_text("control.group"));
    match (socket?, group?) {
        (Some(path), group) => Ok(Some(ControlSocket { path: path.into(), group })),
        (None, Some(_)) => {
            let problem = "has no effect without `control.socket`; give that, or remove this";
            Err(reader.fault("control.group", problem.to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn route(reader: &mut Reader<'_>, block: &str) -> Result<Route, Invalid> {
    let listen = reader.list(&format!("{block}.listen"), values::listen);
    let allowed_networks = reader.networks(&format!("{block}.allowed_networks"));
    let proxy_protocol_from = reader.networks(&format!("{block}.proxy_protocol_from"));
    let hold_timeout = reader.optional_duration(&format!("{block}.hold_timeout"));
    let max_held = reader.count(&format!("{block}.max_held"));
    let max_concurrent_logins = reader.count(&format!("{block}.max_concurrent_logins"));
    Ok(Route {
        listen: listen?,
        allowed_networks: allowed_networks?,
        proxy_protocol_from: proxy_protocol_from?.unwrap_or_default(),
        hold_timeout: hold_timeout?,
        max_held: max_held?,
        max_concurrent_logins: max_concurrent_logins?,
    })
}
