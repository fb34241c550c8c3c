//! The statements of the workloads, and what an error says about their outcome.
//!
//! Every answer names its server. Each row of a key is made before the first fault, so a write is always an update, and a
//! `for update` always has something to lock.

use std::net::IpAddr;

use anyhow::{Context, Result};
use lab::Session;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};

use crate::operation::{Answer, Outcome, Request};

/// Every answer ends with these columns.
const SERVER: &str = "inet_server_addr(), pg_is_in_recovery()";
/// SQLSTATEs after which a statement has certainly had no effect: read-only transaction, serialization failure, deadlock.
/// Not 57P01: a server that shuts down sends it also for a commit that waits for the synchronous replica.
const WITHOUT_EFFECT: [&str; 3] = ["25006", "40001", "40P01"];

/// The error of an operation that does not find its row.
pub(crate) const ROW_GONE: &str = "the row is gone";

/// Makes the tables and the rows of these keys.
pub(crate) async fn prepare(
    session: &Session,
    registers: std::ops::Range<i64>,
    lists: std::ops::Range<i64>,
) -> Result<()> {
    let statements = format!(
        "create table if not exists registers (key bigint primary key, value bigint not null);
         create table if not exists lists (grp bigint, list int, ids bigint[] not null, primary key (grp, list));
         insert into registers select key, 0 from generate_series({}, {}) key;
         insert into lists select grp, list, '{{}}' from generate_series({}, {}) grp, generate_series(1, 2) list",
        registers.start,
        registers.end - 1,
        lists.start,
        lists.end - 1,
    );
    session.batch_execute(&statements).await.context("making the tables of the workloads")
}

/// Does what is asked for, over a session that is broken afterwards unless the outcome is an answer.
pub(crate) async fn execute(session: &Session, key: i64, request: Request) -> Outcome {
    match request {
        Request::Append { id, lists } => append(session, key, id, lists).await,
        Request::Read
        | Request::ConfirmedRead
        | Request::Write(_)
        | Request::CompareAndSet { .. }
        | Request::ReadLists => match single(session, key, request).await {
            Ok(outcome) => outcome,
            Err(error) => failed(&error),
        },
    }
}

async fn single(session: &Session, key: i64, request: Request) -> Result<Outcome, Error> {
    Ok(match request {
        Request::Read => value_of(
            &query(session, &format!("select value, {SERVER} from registers where key = $1"), &[key]).await?,
        ),
        Request::ConfirmedRead => value_of(
            &query(
                session,
                &format!("select value, {SERVER} from registers where key = $1 for update"),
                &[key],
            )
            .await?,
        ),
        Request::Write(value) => {
            let statement = format!("update registers set value = $2 where key = $1 returning {SERVER}");
            server_of(query(session, &statement, &[key, value]).await?.first(), Answer::Done)
        }
        Request::CompareAndSet { expected, value } => {
            // One row in any case, so that also a register with another value names its server.
            let statement = format!(
                "with swapped as (update registers set value = $3 where key = $1 and value = $2 returning key)
                 select (select count(*) from swapped), {SERVER}"
            );
            let rows = query(session, &statement, &[key, expected, value]).await?;
            let swapped = rows.first().is_some_and(|row| row.get::<_, i64>(0) == 1);
            server_at(rows.first(), 1, Answer::Swapped(swapped))
        }
        Request::ReadLists | Request::Append { .. } => {
            let statement = format!("select ids, {SERVER} from lists where grp = $1 order by list");
            lists_of(&query(session, &statement, &[key]).await?)
        }
    })
}

/// Four round trips, so that faults meet it in each state.
async fn append(session: &Session, group: i64, id: i64, lists: [bool; 2]) -> Outcome {
    let body = async {
        session.batch_execute("begin").await?;
        let statement = format!("select ids, {SERVER} from lists where grp = $1 order by list for update");
        let before = lists_of(&query(session, &statement, &[group]).await?);
        for (list, _) in (1..).zip(lists).filter(|(_, chosen)| *chosen) {
            let statement = "update lists set ids = ids || $2 where grp = $1 and list = $3";
            query(session, statement, &[group, id, list]).await?;
        }
        Ok::<_, Error>(before)
    };
    match body.await {
        // Before the commit was sent, nothing can have had an effect.
        Err(error) => Outcome::Failed(text(&error)),
        Ok(before) => match session.batch_execute("commit").await {
            Ok(()) => before,
            Err(error) => failed(&error),
        },
    }
}

/// One round trip.
async fn query(session: &Session, statement: &str, arguments: &[i64]) -> Result<Vec<Row>, Error> {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|value| (value as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8))
        .collect();
    session.query_typed(statement, &arguments).await
}

fn value_of(rows: &[Row]) -> Outcome {
    let Some(row) = rows.first() else { return no_row() };
    server_at(Some(row), 1, Answer::Value(row.get(0)))
}

fn lists_of(rows: &[Row]) -> Outcome {
    let [first, second] = rows else { return no_row() };
    server_at(Some(first), 1, Answer::Lists([first.get(0), second.get(0)]))
}

fn server_of(row: Option<&Row>, answer: Answer) -> Outcome {
    server_at(row, 0, answer)
}

fn server_at(row: Option<&Row>, column: usize, answer: Answer) -> Outcome {
    let Some(row) = row else { return no_row() };
    acknowledged(answer, row.get::<_, Option<IpAddr>>(column), row.get(column + 1))
}

/// The rows were there before the first fault. Without them the data are gone, which the judgement must not overlook.
fn no_row() -> Outcome {
    Outcome::Unknown(ROW_GONE.to_owned())
}

fn failed(error: &Error) -> Outcome {
    let without_effect = error.code().is_some_and(|state| WITHOUT_EFFECT.contains(&state.code()));
    if without_effect { Outcome::Failed(text(error)) } else { Outcome::Unknown(text(error)) }
}

/// The SQLSTATE if there is one, and the error with its causes.
fn text(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => error.to_string(),
    }
}

/// An answer with the server that gave it.
fn acknowledged(answer: Answer, server: Option<IpAddr>, in_recovery: bool) -> Outcome {
    match server {
        Some(server) => Outcome::Acknowledged { answer, server, in_recovery },
        None => Outcome::Unknown("the server gave no address".to_owned()),
    }
}
