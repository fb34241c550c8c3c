//! Statistics of a task.

use std::time::{Duration, Instant};

use nomad_plugin_proto::base::{ClientTopology, ClientTopologyCore, NomadConfig, NomadDriverConfig};
use nomad_plugin_proto::driver::{TaskStats, TaskStatsRequest, cpu_usage, memory_usage};
use tonic::Streaming;

use crate::harness::{Job, Plugin, recover, signal, soon};

fn every(interval: Duration, job: &Job) -> TaskStatsRequest {
    let collection_interval = Some(prost_types::Duration::try_from(interval).unwrap());
    TaskStatsRequest { task_id: job.id(), collection_interval }
}

async fn next(samples: &mut Streaming<nomad_plugin_proto::driver::TaskStatsResponse>) -> Option<TaskStats> {
    let sample = soon(samples.message()).await.unwrap()?;
    Some(sample.stats.expect("without it the agent would panic"))
}

#[tokio::test]
async fn the_first_sample_comes_at_once_the_others_at_the_interval_until_the_task_exits() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    job.start(&plugin).await.unwrap();
    let request = every(Duration::from_secs(600), &job);
    let mut samples = plugin.driver().task_stats(request).await.unwrap().into_inner();
    assert_eq!(next(&mut samples).await.unwrap().id, job.id());
    let request = every(Duration::from_millis(200), &job);
    let mut samples = plugin.driver().task_stats(request).await.unwrap().into_inner();
    let opened = Instant::now();
    for _ in 0..3 {
        let sample = next(&mut samples).await.unwrap();
        let usage = sample.agg_resource_usage.expect("without it the agent would panic");
        assert!(sample.timestamp.expect("without it the sample would be dropped").seconds > 1_700_000_000);
        let memory = usage.memory.unwrap();
        assert!(
            memory.measured_fields.contains(&memory_usage::Fields::Rss.into()) && memory.rss > 1 << 20,
            "{memory:?}"
        );
        assert!(usage.cpu.unwrap().measured_fields.contains(&cpu_usage::Fields::Percent.into()));
        assert!(sample.resource_usage_by_pid.contains_key(&job.proxy().to_string()));
    }
    assert!(opened.elapsed() >= Duration::from_millis(350), "{:?}", opened.elapsed());
    signal(&plugin, &job, "SIGKILL").await;
    while let Some(sample) = next(&mut samples).await {
        assert_eq!(sample.id, job.id());
    }
}

/// Nomad shows MHz: the percentage of a core times its speed.
#[tokio::test]
async fn ticks_are_the_percentage_of_the_speed_that_nomad_sends() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let core = |core_id| ClientTopologyCore { core_id, base_speed: 1234, ..ClientTopologyCore::default() };
    let topology = ClientTopology { cores: vec![core(0), core(1)], ..ClientTopology::default() };
    let driver = NomadDriverConfig { topology: Some(topology), ..NomadDriverConfig::default() };
    plugin.configure(Some(NomadConfig { driver: Some(driver) })).await;
    job.start(&plugin).await.unwrap();
    let mut samples =
        plugin.driver().task_stats(every(Duration::from_millis(100), &job)).await.unwrap().into_inner();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "the proxy used no processor time");
        // Gives it something to do.
        drop(std::net::TcpStream::connect(job.address()));
        let cpu = next(&mut samples).await.unwrap().agg_resource_usage.unwrap().cpu.unwrap();
        let expected = cpu.percent / 100.0 * 1234.0;
        assert!((cpu.total_ticks - expected).abs() < 0.001, "{cpu:?}");
        if cpu.percent > 0.0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_recovered_task_is_measured_too() {
    let mut job = Job::new();
    let plugin = Plugin::start(&job.state_dir()).await;
    let handle = job.start(&plugin).await.unwrap();
    plugin.crash().await;
    let plugin = Plugin::start(&job.state_dir()).await;
    recover(&plugin, handle).await;
    // An interval of zero means the default.
    let mut samples = plugin.driver().task_stats(every(Duration::ZERO, &job)).await.unwrap().into_inner();
    let opened = Instant::now();
    assert!(next(&mut samples).await.is_some() && next(&mut samples).await.is_some());
    assert!(opened.elapsed() >= Duration::from_millis(900), "{:?}", opened.elapsed());
}
