//! tokio-postgres against one server: prints `ok` or `FAILED` for each behaviour.
//!
//! Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
//! Not supported by this client: direct TLS and protocol 3.2. `RawClient` in the tests covers both.

mod behaviours;
mod connect;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use connect::Target;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, ca, other_ca, large] = arguments.as_slice() else {
        bail!("arguments: connection string, file of the CA, file of another CA, bytes of the large result");
    };
    let target = Target::new(url, ca, other_ca)?;
    let large = large.parse().context("bytes of the large result")?;
    let mut report = Report { failed: false };
    report.add("tls_disable", behaviours::tls_disable(&target)).await?;
    report.add("tls_require", behaviours::tls_require(&target)).await?;
    report.add("tls_verify_full", behaviours::tls_verify_full(&target)).await?;
    report.add("tls_wrong_ca_refused", behaviours::tls_wrong_ca_refused(&target)).await?;
    report.add("channel_binding", behaviours::channel_binding(&target)).await?;
    report.add("scram_wrong_password_refused", behaviours::wrong_password_refused(&target)).await?;
    report.add("prepared", behaviours::prepared(&target)).await?;
    report.add("large_parameter", behaviours::large_parameter(&target)).await?;
    report.add("copy_in", behaviours::copy_in(&target)).await?;
    report.add("copy_out", behaviours::copy_out(&target)).await?;
    report.add("listen_notify", behaviours::listen_notify(&target)).await?;
    report.add("cancel", behaviours::cancel(&target)).await?;
    report.add("cancel_tls", behaviours::cancel_tls(&target)).await?;
    report.add("pipeline", behaviours::pipeline(&target)).await?;
    report.add("large_result", behaviours::large_result(&target, large)).await?;
    report.add("error_keeps_session", behaviours::error_keeps_session(&target)).await?;
    report.add("clean_close", behaviours::clean_close(&target)).await?;
    Ok(if report.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Report {
    failed: bool,
}

impl Report {
    /// Runs one behaviour and prints its line. Fails only if that cannot be printed.
    async fn add(&mut self, name: &str, behaviour: impl Future<Output = Result<String>>) -> Result<()> {
        // On the heap, because the futures contain whole connections and buffers.
        let outcome = tokio::time::timeout(BOUND, Box::pin(behaviour)).await;
        let line = match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("not within {BOUND:?}"))) {
            Ok(detail) => format!("ok {name} {detail}"),
            Err(error) => {
                self.failed = true;
                format!("FAILED {name}: {error:#}")
            }
        };
        writeln!(std::io::stdout(), "{}", line.trim_end()).context("print a line")
    }
}

/// For one behaviour; a gigabyte takes a few seconds.
const BOUND: Duration = Duration::from_secs(90);
