//! Tables for people: columns as wide as their widest cell.

use std::io::{self, Write};

/// A table with a header.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub(super) fn new(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_uppercase)] }
    }

    /// Adds a row. Clients choose some of the names: a control character, which could clear the terminal or begin a row that is
    /// none, becomes a question mark.
    pub(super) fn push(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| cell.replace(char::is_control, "?")));
    }

    /// Writes the table, each line after `indent`.
    pub(super) fn print(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{indent}{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// What stands in a cell, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["member", "lag"]);
        table.push(["a-long-name".to_owned(), or_dash(None::<u8>)]);
        table.push(["ö".to_owned(), "1 MiB".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out, "  ").unwrap();
        let expected = "  MEMBER       LAG\n  a-long-name  -\n  ö            1 MiB\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_cell_stays_in_its_row_and_sends_the_terminal_nothing() {
        let mut table = Table::new(["user"]);
        table.push(["\u{1b}[2J\u{9b}x\n18  10.0.0.9".to_owned()]);
        let mut out = Vec::new();
        table.print(&mut out, "").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "USER\n?[2J?x?18  10.0.0.9\n");
    }
}
