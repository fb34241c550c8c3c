//! A Prometheus that scrapes proxies every second and evaluates alert rules.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::http::{self, Response};
use crate::process::Process;
use crate::programs::installed_program;
use crate::reaper::Reaper;
use crate::user::User;

const CONFIG_FILE: &str = "prometheus.json";
/// How often it scrapes, and evaluates the rules.
const INTERVAL: &str = "1s";
/// From the start to the first 200 at `/-/ready`, on a busy machine.
const READY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// One answer.
const ANSWER: Duration = Duration::from_secs(10);

/// A running Prometheus. Dropping it ends it.
#[derive(Debug)]
pub struct Prometheus {
    // Dropped before the reaper, which removes the directory.
    process: Mutex<Process>,
    _reaper: Reaper,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it on `address`, and waits until it is ready. It scrapes `targets` as the job `job`, and evaluates the file
    /// `rules`.
    ///
    /// # Errors
    /// When it is not installed, or not ready within 30 seconds.
    pub async fn start(
        address: SocketAddr,
        (job, targets): (&str, &[SocketAddr]),
        rules: &Path,
    ) -> Result<Self> {
        let reaper = Reaper::start(&User::own())?;
        let directory = reaper.directory();
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let rules = rules.canonicalize().with_context(|| format!("finding {}", rules.display()))?;
        // JSON is YAML.
        let config = json!({
            "global": { "scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": job, "static_configs": [{ "targets": targets }] }],
        });
        fs::write(directory.join(CONFIG_FILE), config.to_string()).context("writing its configuration")?;
        let mut program = Command::new(installed_program("prometheus", "apt-get install prometheus")?);
        program.arg(format!("--config.file={CONFIG_FILE}")).arg("--storage.tsdb.path=data");
        program.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let process = Mutex::new(Process::start(&reaper, "prometheus", program, directory)?);
        let prometheus = Self { process, _reaper: reaper, address };
        prometheus.wait_ready().await?;
        Ok(prometheus)
    }

    async fn wait_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            self.process.lock().check_running()?;
            match http::get(self.address, "/-/ready", ANSWER).await {
                Ok(Response { status: 200, .. }) => return Ok(()),
                other if Instant::now() >= deadline => {
                    bail!("Prometheus is not ready after {READY:?}: {other:?}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// The names of the alerts that fire now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let data = self.get("/api/v1/alerts").await?;
        let alerts = data["alerts"].as_array().context("an answer without alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|alert| alert["labels"]["alertname"].as_str()).map(str::to_owned).collect())
    }

    /// The values of every series that `expr` gave within the time before now, one every five seconds.
    ///
    /// # Errors
    /// When it does not answer, or the expression is wrong.
    pub async fn values(&self, expr: &str, within: Duration) -> Result<Vec<f64>> {
        let now = self.get("/api/v1/query?query=time()").await?;
        let now = now["result"][0].as_f64().context("an answer without the time")?;
        let begin = now - within.as_secs_f64();
        let path = format!("/api/v1/query_range?query={}&start={begin}&end={now}&step=5", encoded(expr));
        let data = self.get(&path).await.with_context(|| format!("asking for {expr}"))?;
        let series = data["result"].as_array().context("an answer without a result")?;
        let samples = series.iter().filter_map(|series| series["values"].as_array()).flatten();
        Ok(samples.filter_map(|sample| sample[1].as_str()?.parse().ok()).collect())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let Response { status, body } = http::get(self.address, path, ANSWER).await?;
        ensure!(status == 200, "Prometheus answers {status}: {body}");
        let mut answer: Value = serde_json::from_str(&body).context("reading an answer of Prometheus")?;
        Ok(answer["data"].take())
    }
}

/// A text as a part of a query string.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_encoded() {
        assert_eq!(encoded(r#"rate(x{a="b"}[1m])"#), "rate%28x%7Ba%3D%22b%22%7D%5B1m%5D%29");
    }
}
