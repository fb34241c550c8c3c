//! Plain HTTP on the private network: etcd, Patroni, the proxy's page, the services of Stack B.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Everything that is asked answers at once, or is not well.
const WITHIN: Duration = Duration::from_secs(3);
/// No answer that is asked for is longer.
const LARGEST: u64 = 4 << 20;

/// The status and the body. A status such as 503 is an answer, not an error.
pub(crate) fn get(url: &str) -> Result<(u16, String)> {
    get_with(url, ("accept", "*/*"))
}

/// The same, with a header.
pub(crate) fn get_with(url: &str, (name, value): (&str, &str)) -> Result<(u16, String)> {
    let answer = agent().get(url).header(name, value).call().with_context(|| format!("GET {url}"))?;
    let status = answer.status().as_u16();
    let body = answer
        .into_body()
        .with_config()
        .limit(LARGEST)
        .read_to_string()
        .with_context(|| format!("GET {url}"))?;
    Ok((status, body))
}

/// The JSON of an answer with status 200.
pub(crate) fn json(url: &str) -> Result<Value> {
    let (status, body) = get(url)?;
    ensure!(status == 200, "GET {url}: status {status}, {}", body.trim());
    serde_json::from_str(&body).with_context(|| format!("GET {url}: no JSON"))
}

/// The JSON answer to an empty object, as etcd's gateway wants it.
pub(crate) fn post(url: &str) -> Result<Value> {
    let mut answer =
        agent().post(url).send_json(serde_json::json!({})).with_context(|| format!("POST {url}"))?;
    let body = answer.body_mut().read_to_string().with_context(|| format!("POST {url}"))?;
    ensure!(answer.status().as_u16() == 200, "POST {url}: status {}, {}", answer.status(), body.trim());
    serde_json::from_str(&body).with_context(|| format!("POST {url}: no JSON"))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(WITHIN))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}
