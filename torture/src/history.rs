//! The history of one setup's clients: kept in memory for the counts, and written for the checker.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use parking_lot::Mutex;

use crate::operation::Operation;

/// All operations so far, in the order of their ends.
#[derive(Debug, Default)]
pub(crate) struct History {
    operations: Mutex<Vec<Operation>>,
}

impl History {
    pub(crate) fn record(&self, operation: Operation) {
        self.operations.lock().push(operation);
    }

    pub(crate) fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut self.operations.lock())
    }
}

/// Writes the events of all operations as lines of JSON, in the order of time.
pub(crate) fn write(operations: &[Operation], file: &Path) -> Result<()> {
    let mut events: Vec<_> = operations
        .iter()
        .flat_map(|operation| [operation.invoked, operation.completed].into_iter().zip(operation.events()))
        .collect();
    events.sort_by_key(|(at, _)| *at);
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        events.iter().try_for_each(|(_, event)| writeln!(out, "{event}"))?;
        out.flush()
    };
    write().with_context(|| format!("writing {}", file.display()))
}
