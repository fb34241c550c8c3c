//! Markdown tables, padded so that they are readable as text too.

use std::fmt;

/// A table. The first column is aligned left, the others right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// The head, and then the other rows.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Self {
        Self { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = self.width(column);
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if number == 0 {
                for column in 0..row.len() {
                    let rule = "-".repeat(self.width(column) - usize::from(column > 0));
                    f.write_str(&if column == 0 { format!("| {rule} |") } else { format!(" {rule}: |") })?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_and_aligned() {
        let mut table = Table::new(&["setup", "ms"]);
        table.push(vec!["direct".to_owned(), "1234".to_owned()]);
        assert_eq!(table.to_string(), "| setup  |   ms |\n| ------ | ---: |\n| direct | 1234 |\n");
    }
}
