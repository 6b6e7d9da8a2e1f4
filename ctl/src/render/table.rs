//! Columns without borders, two spaces apart.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

/// A table that grows row by row. An empty one renders as nothing.
pub(super) struct Columns {
    table: Table,
    rows: usize,
}

impl Columns {
    pub(super) fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(header.iter().copied());
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self { table, rows: 0 }
    }

    pub(super) fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let cells = cells.into_iter().map(|c| clean(&c));
        self.table.add_row(cells);
        self.rows += 1;
    }

    /// The lines, without spaces at their ends; `empty` when there is no row.
    pub(super) fn text(&self, empty: &str) -> String {
        if self.rows == 0 {
            return format!("{empty}\n");
        }
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value that may be absent.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

/// Several values, comma-separated; `-` when there are none.
pub(super) fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    if values.is_empty() {
        return "-".to_owned();
    }
    values.join(",")
}

/// Text from elsewhere (a peer's shutdown message, say) must not steer the terminal or break a row.
pub(super) fn clean(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
