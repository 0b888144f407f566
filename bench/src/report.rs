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

/// What was measured, beside what bounds it.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    unit: Unit,
    ours: Times,
    limit_name: String,
    limit: Times,
    target: Option<Target>,
    note: String,
}

/// What the numbers of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
}

/// What a row must not exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// So many times what stands beside it.
    Ratio(f64),
    /// So much more than what stands beside it.
    More(f64),
    /// So much by itself.
    Absolute(f64),
}

impl Row {
    /// Times of `name`, beside those of `limit_name`.
    pub(crate) fn times(name: &str, ours: Times, limit_name: &str, limit: Times) -> Self {
        let (name, limit_name) = (name.to_owned(), limit_name.to_owned());
        Self { name, unit: Unit::Nanoseconds, ours, limit_name, limit, target: None, note: String::new() }
    }

    /// Bytes instead of times.
    pub(crate) fn bytes(name: &str, ours: Times, limit_name: &str, limit: Times) -> Self {
        Self { unit: Unit::Bytes, ..Self::times(name, ours, limit_name, limit) }
    }

    /// What it must not exceed.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// What else there is to say.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn ratio(&self) -> f64 {
        self.ours.median() / self.limit.median()
    }

    fn more(&self) -> f64 {
        self.ours.median() - self.limit.median()
    }

    /// Whether the target is met, if there is one.
    fn met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(most) => self.ratio() <= most,
            Target::More(most) => self.more() <= most,
            Target::Absolute(most) => self.ours.median() <= most,
        })
    }

    fn shown(&self, amount: f64) -> String {
        match self.unit {
            Unit::Nanoseconds => shown_time(amount),
            Unit::Bytes => shown_bytes(amount),
        }
    }

    fn shown_target(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::Ratio(most)) => format!("at most {most} ×"),
            Some(Target::More(most)) => format!("at most {} more", self.shown(most)),
            Some(Target::Absolute(most)) => format!("at most {}", self.shown(most)),
        }
    }

    fn shown_met(&self) -> &'static str {
        match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        }
    }

    fn cells(&self) -> [String; COLUMNS] {
        let spread = |times: &Times| {
            if times.len() < 2 {
                return String::new();
            }
            format!("{} to {}", self.shown(times.quantile(0.1)), self.shown(times.quantile(0.9)))
        };
        [
            self.name.clone(),
            self.shown(self.ours.median()),
            spread(&self.ours),
            self.limit_name.clone(),
            self.shown(self.limit.median()),
            spread(&self.limit),
            format!("{:.2}", self.ratio()),
            self.shown(self.more()),
            self.shown_target(),
            self.shown_met().to_owned(),
            self.note.clone(),
        ]
    }

    fn json(&self) -> Value {
        let unit = match self.unit {
            Unit::Nanoseconds => "ns",
            Unit::Bytes => "bytes",
        };
        let numbers = |times: &Times| {
            let mut numbers = json!({ "rounds": times.len() });
            let parts = [("median", 0.5), ("p10", 0.1), ("p90", 0.9), ("min", 0.0), ("max", 1.0)];
            for (name, part) in parts {
                numbers[format!("{name}_{unit}")] = times.quantile(part).into();
            }
            numbers
        };
        let target = self.target.map(|target| match target {
            Target::Ratio(most) => json!({ "ratio": most }),
            Target::More(most) => json!({ format!("more_{unit}"): most }),
            Target::Absolute(most) => json!({ format!("median_{unit}"): most }),
        });
        json!({
            "name": self.name, "ours": numbers(&self.ours), "limit": self.limit_name,
            "limit_times": numbers(&self.limit), "ratio": self.ratio(), "target": target, "met": self.met(),
            "note": self.note,
        })
    }
}

const COLUMNS: usize = 11;
const HEADS: [&str; COLUMNS] = [
    "what",
    "median",
    "10 % to 90 %",
    "beside",
    "median",
    "10 % to 90 %",
    "ratio",
    "more",
    "target",
    "is",
    "note",
];
/// Columns of numbers.
const RIGHT: [usize; 6] = [1, 2, 4, 5, 6, 7];

impl Report {
    pub(crate) fn begin() -> Self {
        Self { rows: Vec::new(), load_before: load(), load_after: String::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let (ours, limit) = (row.shown(row.ours.median()), row.shown(row.limit.median()));
        eprintln!("measured {}: {ours} beside {limit} ({}) {}", row.name, row.limit_name, row.shown_met());
        self.rows.push(row);
    }

    pub(crate) fn end(&mut self) {
        self.load_after = load();
    }

    pub(crate) fn table(&self) -> String {
        let mut cells = vec![HEADS.map(str::to_owned)];
        cells.extend(self.rows.iter().map(Row::cells));
        let mut text = String::new();
        for row in &cells {
            for (column, cell) in row.iter().enumerate() {
                let width = cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
                let pad = " ".repeat(width - cell.chars().count());
                let right = RIGHT.contains(&column);
                let _ = if right { write!(text, "{pad}{cell}  ") } else { write!(text, "{cell}{pad}  ") };
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        let missed = self.rows.iter().filter(|row| row.met() == Some(false)).count();
        let _ = writeln!(
            text,
            "\n{} cores, load {} before and {} after; {missed} targets missed. *more* is the difference of the medians. A \
             ratio holds on this machine, disk and load; where the spreads of a row overlap, it is noise.",
            cores(),
            self.load_before,
            self.load_after
        );
        text
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(), "cores": cores(),
            "load_before": self.load_before, "load_after": self.load_after,
        })
    }
}

/// A time in the unit that fits it.
pub(crate) fn shown_time(nanoseconds: f64) -> String {
    match nanoseconds.abs() {
        n if n < 1e3 => format!("{nanoseconds:.1} ns"),
        n if n < 1e6 => format!("{:.1} µs", nanoseconds / 1e3),
        n if n < 1e9 => format!("{:.2} ms", nanoseconds / 1e6),
        _ => format!("{:.2} s", nanoseconds / 1e9),
    }
}

fn shown_bytes(bytes: f64) -> String {
    match bytes.abs() {
        n if n < 1024.0 => format!("{bytes:.0} B"),
        n if n < 1_048_576.0 => format!("{:.1} KiB", bytes / 1024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
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

    fn times(all: &[f64]) -> Times {
        let mut times = Times::default();
        all.iter().for_each(|time| times.push(*time));
        times
    }

    fn row() -> Row {
        Row::times("put", times(&[300.0, 200.0, 400.0]), "bare", times(&[100.0, 200.0, 150.0]))
    }

    #[test]
    fn a_row_shows_medians_ratio_and_difference() {
        let mut report = Report::begin();
        report.add(row().note("note"));
        report.end();
        let table = report.table();
        let row = table.lines().nth(1).unwrap();
        assert!(row.contains("300.0 ns") && row.contains("150.0 ns") && row.contains("2.00"), "{table}");
        assert_eq!(report.json()["rows"][0]["ratio"], 2.0);
        assert_eq!(report.json()["rows"][0]["ours"]["median_ns"], 300.0);
    }

    #[test]
    fn a_target_is_met_or_missed() {
        for (target, met) in [
            (Target::Ratio(2.0), true),
            (Target::Ratio(1.9), false),
            (Target::More(150.0), true),
            (Target::More(149.0), false),
            (Target::Absolute(300.0), true),
            (Target::Absolute(299.0), false),
        ] {
            let row = row().target(target);
            assert_eq!(row.met(), Some(met), "{target:?}");
            assert_eq!(row.shown_met(), if met { "met" } else { "MISSED" });
        }
        assert_eq!(row().met(), None);
        // What was not measured meets nothing.
        let nothing = Row::times("put", Times::default(), "bare", Times::default());
        assert_eq!(nothing.target(Target::Ratio(1e9)).met(), Some(false));
    }

    #[test]
    fn amounts_are_shown_in_the_unit_that_fits() {
        assert_eq!(
            [24.0, 1_500.0, 2_340_000.0, 1.5e9].map(shown_time),
            ["24.0 ns", "1.5 µs", "2.34 ms", "1.50 s"]
        );
        assert_eq!([10.0, 1_536.0, 1_572_864.0].map(shown_bytes), ["10 B", "1.5 KiB", "1.5 MiB"]);
    }
}
