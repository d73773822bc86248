//! The one table a run ends with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::SystemKind;

/// One measured quantity in the systems that were run.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub what: String,
    /// Whether more is worse (CPU, memory) rather than better (rates).
    pub cost: bool,
    pub kafka: Option<f64>,
    pub kafka_fsync: Option<f64>,
    pub whimbrel: Option<f64>,
    /// Why a system has no figure here, where it was asked for one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<&'static str, String>,
}

impl Row {
    /// A row without figures.
    fn new(what: &str, cost: bool) -> Self {
        Self {
            what: what.to_owned(),
            cost,
            kafka: None,
            kafka_fsync: None,
            whimbrel: None,
            failed: BTreeMap::new(),
        }
    }

    /// Whimbrel against the Kafka column that promises the same, or against the only one. Above 1 is better for a rate, below 1 for a cost.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.whimbrel? / self.kafka_fsync.or(self.kafka)?)
    }
}

#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A rate: more is better.
    pub fn set(&mut self, what: &str, kind: SystemKind, value: f64) {
        self.put(what, kind, value, false);
    }

    /// A cost: less is better.
    pub fn set_cost(&mut self, what: &str, kind: SystemKind, value: f64) {
        self.put(what, kind, value, true);
    }

    /// A figure that could not be had: the row says so, and why.
    pub fn fail(&mut self, what: &str, kind: SystemKind, why: &str) {
        let row = self.row(what, true);
        row.failed.insert(column(kind), why.to_owned());
    }

    fn row(&mut self, what: &str, cost: bool) -> &mut Row {
        let found = self.rows.iter().position(|row| row.what == what);
        let index = found.unwrap_or(self.rows.len());
        if found.is_none() {
            self.rows.push(Row::new(what, cost));
        }
        &mut self.rows[index]
    }

    fn put(&mut self, what: &str, kind: SystemKind, value: f64, cost: bool) {
        let row = self.row(what, cost);
        row.cost = cost;
        match kind {
            SystemKind::Kafka => row.kafka = Some(value),
            SystemKind::KafkaFsync => row.kafka_fsync = Some(value),
            SystemKind::Whimbrel => row.whimbrel = Some(value),
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    #[expect(clippy::print_stdout, reason = "the table is what this program is for")]
    pub fn print(&self) {
        println!(
            "{:<60} {:>10} {:>16} {:>10} {:>7}",
            "", "Kafka 4.2", "flush.messages=1", "Whimbrel", "ratio"
        );
        for row in &self.rows {
            let better = if row.cost { " (less is better)" } else { "" };
            let cell = |kind, value: Option<f64>| match value {
                Some(value) => format!("{value:.2}"),
                None if row.failed.contains_key(column(kind)) => "failed".to_owned(),
                None => "-".to_owned(),
            };
            println!(
                "{:<60} {:>10} {:>16} {:>10} {:>7}{better}",
                row.what,
                cell(SystemKind::Kafka, row.kafka),
                cell(SystemKind::KafkaFsync, row.kafka_fsync),
                cell(SystemKind::Whimbrel, row.whimbrel),
                row.ratio()
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            );
        }
        for row in &self.rows {
            for (system, why) in &row.failed {
                println!("{}: {system} failed: {why}", row.what);
            }
        }
    }
}

/// A system's name in the history.
fn column(kind: SystemKind) -> &'static str {
    match kind {
        SystemKind::Kafka => "kafka",
        SystemKind::KafkaFsync => "kafka_fsync",
        SystemKind::Whimbrel => "whimbrel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_against_the_same_promise() {
        let mut table = Table::default();
        table.set("x", SystemKind::Kafka, 300.0);
        table.set("x", SystemKind::Whimbrel, 150.0);
        assert_eq!(table.rows()[0].ratio(), Some(0.5));
        table.set("x", SystemKind::KafkaFsync, 100.0);
        assert_eq!(table.rows()[0].ratio(), Some(1.5));
    }

    #[test]
    fn a_system_that_failed_leaves_its_reason_and_the_others_figures() {
        let mut table = Table::default();
        table.fail("x", SystemKind::KafkaFsync, "nothing was acknowledged");
        table.set("x", SystemKind::Whimbrel, 20.0);
        let row = &table.rows()[0];
        assert_eq!(
            (row.whimbrel, row.kafka_fsync, row.cost),
            (Some(20.0), None, false)
        );
        assert_eq!(row.failed["kafka_fsync"], "nothing was acknowledged");
        assert_eq!(row.ratio(), None);
    }
}
