//! The rows, as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::Times;

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    load_before: String,
    load_after: String,
}

#[derive(Debug)]
struct Row {
    name: String,
    ours: Times,
    limit_name: String,
    limit: Times,
    note: String,
}

impl Report {
    pub(crate) fn begin() -> Self {
        Self { rows: Vec::new(), load_before: load(), load_after: String::new() }
    }

    /// Adds a row: what was measured, beside what bounds it, and what else there is to say.
    pub(crate) fn row(&mut self, name: &str, ours: Times, limit_name: &str, limit: Times, note: &str) {
        eprintln!(
            "measured {name}: {} beside {} ({limit_name})",
            shown(ours.median()),
            shown(limit.median())
        );
        let (name, limit_name, note) = (name.to_owned(), limit_name.to_owned(), note.to_owned());
        self.rows.push(Row { name, ours, limit_name, limit, note });
    }

    pub(crate) fn end(&mut self) {
        self.load_after = load();
    }

    pub(crate) fn table(&self) -> String {
        let heads =
            ["what", "median", "10 % to 90 %", "limit", "median", "10 % to 90 %", "ratio", "more", "note"];
        let mut cells = vec![heads.map(str::to_owned)];
        cells.extend(self.rows.iter().map(Row::cells));
        let mut text = String::new();
        for row in &cells {
            for (column, cell) in row.iter().enumerate() {
                let width = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
                let pad = " ".repeat(width - cell.chars().count());
                let right = matches!(column, 1 | 2 | 4 | 5 | 6 | 7);
                let _ = if right { write!(text, "{pad}{cell}  ") } else { write!(text, "{cell}{pad}  ") };
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "\n{} cores, load {} before and {} after. *more* is the difference of the medians. A ratio holds on this \
             machine, disk and load; where the spreads of a row overlap, it is noise.",
            cores(),
            self.load_before,
            self.load_after
        );
        text
    }

    pub(crate) fn json(&self) -> Value {
        let times = |times: &Times| {
            json!({
                "median_ns": times.median(), "p10_ns": times.quantile(0.1), "p90_ns": times.quantile(0.9),
                "min_ns": times.quantile(0.0), "rounds": times.len(),
            })
        };
        let row = |row: &Row| {
            json!({
                "name": row.name, "ours": times(&row.ours), "limit": row.limit_name,
                "limit_times": times(&row.limit), "ratio": row.ratio(), "note": row.note,
            })
        };
        json!({
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "cores": cores(),
            "load_before": self.load_before, "load_after": self.load_after,
        })
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        self.ours.median() / self.limit.median()
    }

    fn cells(&self) -> [String; 9] {
        let spread =
            |times: &Times| format!("{} to {}", shown(times.quantile(0.1)), shown(times.quantile(0.9)));
        [
            self.name.clone(),
            shown(self.ours.median()),
            spread(&self.ours),
            self.limit_name.clone(),
            shown(self.limit.median()),
            spread(&self.limit),
            format!("{:.2}", self.ratio()),
            shown(self.ours.median() - self.limit.median()),
            self.note.clone(),
        ]
    }
}

/// A time in the unit that fits it.
fn shown(nanoseconds: f64) -> String {
    match nanoseconds.abs() {
        n if n < 1e3 => format!("{nanoseconds:.1} ns"),
        n if n < 1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        n if n < 1e9 => format!("{:.2} ms", nanoseconds / 1e6),
        _ => format!("{:.2} s", nanoseconds / 1e9),
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_medians_ratio_and_difference() {
        let times = |all: &[f64]| {
            let mut times = Times::default();
            all.iter().for_each(|time| times.push(*time));
            times
        };
        let mut report = Report::begin();
        report.row("put", times(&[300.0, 200.0, 400.0]), "bare", times(&[100.0, 200.0, 150.0]), "note");
        report.end();
        let table = report.table();
        let row = table.lines().nth(1).unwrap();
        assert!(row.contains("300.0 ns") && row.contains("150.0 ns") && row.contains("2.00"), "{table}");
        assert_eq!(report.json()["rows"][0]["ratio"], 2.0);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        assert_eq!(
            [24.0, 1_500.0, 2_340_000.0, 1.5e9].map(shown),
            ["24.0 ns", "1.5 µs", "2.34 ms", "1.50 s"]
        );
    }
}
