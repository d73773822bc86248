//! `tier export`: a topic or a range of a partition of it as a file that others read.

use serde_json::json;
use whimbrel_client::{ClientError, Isolation};
use whimbrel_runtime::Clock;
use whimbrel_tiering::export::{self, ExportError, Exported, OfPartition, Progress};

use super::At;
use crate::{
    args::{Export, FileFormat, Isolation as Seen},
    bar,
    exit::{Exit, Refusal},
    output,
    verbs::topic::{client, partitions},
};

pub(super) async fn run(at: &At, typed: &Export) -> anyhow::Result<Exit> {
    let client = client(at, typed.command_config.as_deref()).await?;
    let known = partitions(at, &client, &typed.topic, typed.partition).await;
    let partitions = known.map_err(|error| match error.downcast::<ClientError>() {
        Ok(error) => refusal(error.into()),
        Err(other) => other,
    })?;
    // The only one there is.
    let FileFormat::Parquet = typed.format;
    let wish = export::Export {
        topic: typed.topic.clone(),
        partitions,
        from: typed.from,
        to: typed.to,
        isolation: match typed.isolation {
            Seen::ReadCommitted => Isolation::ReadCommitted,
            Seen::ReadUncommitted => Isolation::ReadUncommitted,
        },
        file: typed.file.clone(),
        overwrite: typed.overwrite,
        patience: typed.timeout.0,
    };
    let bar = bar::new(0, "{wide_bar} {pos}/{len} offsets, {eta} left");
    let told = |Progress { done, all }| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let clock = Clock::system();
    let done = export::export(&client, &wish, &at.tasks, &clock, told).await;
    bar.finish_and_clear();
    report(at, typed, &done.map_err(refusal)?)?;
    Ok(Exit::Ok)
}

fn report(at: &At, typed: &Export, done: &Exported) -> anyhow::Result<()> {
    let (topic, file) = (&typed.topic, typed.file.display().to_string());
    let records: u64 = done.partitions.iter().map(|part| part.records).sum();
    let value = json!({
        "topic": topic, "records": records, "file": file, "bytes": done.bytes,
        "partitions": done.partitions,
    });
    output::print(at.format, &value, |_| {
        let line = |part: &OfPartition| {
            format!(
                "{topic}-{}: {} record(s) of offsets {}..{}",
                part.partition, part.records, part.from, part.to
            )
        };
        let mut lines: Vec<String> = done.partitions.iter().map(line).collect();
        lines.push(format!(
            "{records} record(s) in {file} ({} bytes)",
            done.bytes
        ));
        lines.join("\n")
    })
}

/// What a script can tell apart.
fn refusal(error: ExportError) -> anyhow::Error {
    let (exit, help) = match &error {
        ExportError::Exists { .. } => (
            Exit::Refused,
            ": name another one, or replace it with --overwrite",
        ),
        ExportError::Bounds { .. } | ExportError::Gone { .. } => (Exit::Refused, ""),
        ExportError::Stalled { .. } => (Exit::TimedOut, ""),
        ExportError::Client(
            ClientError::Connect { .. }
            | ClientError::Lost { .. }
            | ClientError::TimedOut { .. }
            | ClientError::NoBroker { .. },
        ) => (Exit::Unreachable, ""),
        ExportError::Client(_) | ExportError::Records { .. } | ExportError::Output { .. } => {
            (Exit::Failed, "")
        }
    };
    Refusal::error(exit, format!("{error}{help}"))
}
