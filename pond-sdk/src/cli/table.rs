//! Tables of aligned columns.

/// A table with a heading. The last column is not padded.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()],
        }
    }

    /// Adds a row; an empty cell becomes a dash.
    pub(crate) fn row<I: IntoIterator<Item = S>, S: Into<String>>(&mut self, cells: I) {
        let dash = |cell: String| if cell.is_empty() { "-".to_owned() } else { cell };
        self.rows
            .push(cells.into_iter().map(|cell| dash(cell.into())).collect());
    }

    /// The lines, with every cell passed through `show` first.
    pub(crate) fn lines(&self, show: impl Fn(&str) -> String) -> Vec<String> {
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| show(cell)).collect())
            .collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        rows.iter().map(|row| render(row, &widths)).collect()
    }
}

fn render(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, &width)| format!("{cell:<width$}"))
        .collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["KEY", "LABEL"]);
        table.row(["a", "é long"]);
        table.row(["longer", ""]);
        assert_eq!(
            table.lines(str::to_owned),
            ["KEY     LABEL", "a       é long", "longer  -"]
        );
    }
}
