//! The commands of every page, run in the page's order against a real cluster that takes the place of its addresses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use std::time::Duration;

use docs::{Block, Page, Treatment, book_and_readme};
use lab::{Cluster, ClusterOptions, MONITOR};
use shell::Shell;

/// The scope in the pages.
const SCOPE: &str = "main";
/// The monitoring user's password in the pages.
const PASSWORD: &str = "secret";
const HEALTHY: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_every_page_do_what_the_page_says() {
    let options = ClusterOptions { scope: SCOPE.to_owned(), ..ClusterOptions::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let mut run = 0;
    for page in book_and_readme().unwrap() {
        run += follow(&cluster, &page).await;
    }
    assert!(run > 0, "no page has a command that is run");
}

/// Does what a page says, from its first block to its last one. Returns how many commands it ran.
async fn follow(cluster: &Cluster, page: &Page) -> usize {
    let blocks = page.blocks();
    let is_run = |block: &&Block| {
        ["sh", "sql"].contains(&block.language.as_str()) && !matches!(block.treatment, Treatment::NotRun(_))
    };
    let count = blocks.iter().filter(is_run).count();
    if count == 0 {
        return 0;
    }
    monitoring_user(cluster, &blocks).await;
    let mut shell = Shell::new(cluster);
    for block in &blocks {
        let place = format!("{}:{}", page.path.display(), block.line);
        match (block.language.as_str(), &block.treatment) {
            (_, Treatment::NotRun(_)) => {}
            ("toml", Treatment::Whole) => shell.save(&block.text),
            ("sql", Treatment::Whole) => sql(cluster, &block.text, &place).await,
            ("sh", Treatment::Whole) => shell.run(&block.text, &place).await,
            ("sh", Treatment::Background) => shell.run_beside(&block.text, &place).await,
            ("text", Treatment::Output) => shell.expect(&block.text, &place),
            ("sh" | "sql", treatment) => panic!("{place}: a command cannot be {treatment:?}"),
            _ => {}
        }
    }
    count
}

/// The user that the page makes, or that it takes for granted.
async fn monitoring_user(cluster: &Cluster, blocks: &[Block]) {
    let makes = format!("CREATE USER {}", MONITOR.user);
    let made = blocks.iter().any(|block| block.language == "sql" && block.text.contains(&makes));
    sql(cluster, &format!("DROP USER IF EXISTS {}", MONITOR.user), "before the page").await;
    if !made {
        sql(cluster, &format!("{makes} PASSWORD '{PASSWORD}'"), "before the page").await;
    }
}

/// Runs SQL on the leader as a superuser, and waits until the replicas have what came of it.
async fn sql(cluster: &Cluster, text: &str, place: &str) {
    let leader = cluster.wait_healthy(HEALTHY).await.unwrap();
    let session = cluster.superuser(&leader, "postgres").await.unwrap();
    session.batch_execute(text).await.unwrap_or_else(|error| panic!("{place}: {error}"));
    let row = session.query_one("select pg_current_wal_lsn()::text", &[]).await.unwrap();
    let written: String = row.get(0);
    for replica in cluster.others(&leader) {
        let session = cluster.superuser(&replica, "postgres").await.unwrap();
        let caught_up = "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        while !session.query_one(caught_up, &[&written]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
