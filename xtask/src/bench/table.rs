//! The one table a run ends with.

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
}

impl Row {
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

    fn put(&mut self, what: &str, kind: SystemKind, value: f64, cost: bool) {
        let found = self.rows.iter().position(|row| row.what == what);
        let index = found.unwrap_or(self.rows.len());
        if found.is_none() {
            self.rows.push(Row {
                what: what.to_owned(),
                cost,
                kafka: None,
                kafka_fsync: None,
                whimbrel: None,
            });
        }
        let row = &mut self.rows[index];
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
        let cell = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        println!(
            "{:<52} {:>10} {:>16} {:>10} {:>7}",
            "", "Kafka 4.2", "flush.messages=1", "Whimbrel", "ratio"
        );
        for row in &self.rows {
            let better = if row.cost { " (less is better)" } else { "" };
            println!(
                "{:<52} {:>10} {:>16} {:>10} {:>7}{better}",
                row.what,
                cell(row.kafka),
                cell(row.kafka_fsync),
                cell(row.whimbrel),
                cell(row.ratio()),
            );
        }
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
}
