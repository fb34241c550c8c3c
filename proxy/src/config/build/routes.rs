//! Where the proxy listens, and how clients wait there.

use std::net::SocketAddr;

use super::super::checked::{ControlSocket, Route};
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
    let hold_timeout = reader.optional_duration(&format!("{block}.hold_timeout"));
    let max_held = reader.count(&format!("{block}.max_held"));
    let max_concurrent_logins = reader.count(&format!("{block}.max_concurrent_logins"));
    Ok(Route {
        listen: listen?,
        hold_timeout: hold_timeout?,
        max_held: max_held?,
        max_concurrent_logins: max_concurrent_logins?,
    })
}
