//! Step 0: two regions and a witness as separate processes, and the clients that will live through all.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use whimbrel_rpc::controller::{ControllerClient, NewTopic};
use whimbrel_runtime::{Clock, Tasks, random};

use super::{
    Options, PARTITIONS, Progress, StepReport, TOPIC, Tour, TourError, clients::Clients,
    facts::Facts, wait,
};
use crate::{Children, Layout};

const NAME: &str = "start two regions and a witness";

/// Closed segments are what is tiered: small ones, so that little input has several.
const MIN_SEGMENT_BYTES: usize = 128 * 1024;

pub(crate) async fn start<'a>(
    options: &Options,
    lines: Vec<Bytes>,
    progress: &'a mut dyn Progress,
    tasks: &Tasks,
    clock: Clock,
    steps: &mut Vec<StepReport>,
) -> Result<Tour<'a>, (TourError, Facts)> {
    let begun = clock.boot_ms();
    progress.step(NAME);
    let shutdown = tasks.shutdown();
    let started = shutdown
        .unless(bring_up(options, tasks, &clock, progress, &lines))
        .await
        .unwrap_or(Err(TourError::Interrupted));
    let seconds = clock.boot_ms().saturating_sub(begun) as f64 / 1_000.0;
    steps.push(StepReport {
        name: NAME.to_owned(),
        ok: started.is_ok(),
        seconds,
    });
    progress.done(started.is_ok(), seconds);
    match started {
        Ok((layout, children, controller, clients)) => Ok(Tour {
            _layout: layout,
            children,
            controller,
            clients,
            facts: Facts::default(),
            progress,
            clock,
            lines,
            writer: None,
        }),
        Err(error) => Err((error, Facts::default())),
    }
}

async fn bring_up(
    options: &Options,
    tasks: &Tasks,
    clock: &Clock,
    progress: &mut dyn Progress,
    lines: &[Bytes],
) -> Result<(Layout, Children, ControllerClient, Clients), TourError> {
    let layout = Layout::on_free_ports(options.data_dir.clone())?;
    let fleet_id = whimbrel_fleet::naming::cluster_id(random::uuid());
    let specs = layout.processes(&fleet_id)?;
    layout.write_configs(&specs)?;
    let mut children = Children::default();
    for spec in &specs {
        children.start(&options.binary, spec)?;
    }
    children.ready(Duration::from_secs(30)).await?;
    let controller = ControllerClient::connect(layout.controllers(), None, tasks, clock.clone());
    let bytes: usize = lines.iter().map(Bytes::len).sum();
    create_topic(&controller, clock, bytes).await?;
    let clients = Clients::new(&layout.manifest().bootstrap, clock)?;
    progress.fact(&format!(
        "9 processes, bootstrap {}, data in {}",
        layout.manifest().bootstrap,
        layout.data_dir.display()
    ));
    Ok((layout, children, controller, clients))
}

async fn create_topic(
    controller: &ControllerClient,
    clock: &Clock,
    bytes: usize,
) -> Result<(), TourError> {
    let segment_bytes = MIN_SEGMENT_BYTES.max(bytes / 24);
    let configs = BTreeMap::from([
        ("segment.bytes".to_owned(), segment_bytes.to_string()),
        // Local copies go as soon as the bucket's are verified.
        ("local.retention.bytes".to_owned(), "0".to_owned()),
    ]);
    let topic = NewTopic {
        configs,
        ..NewTopic::new(TOPIC, PARTITIONS)
    };
    controller.create_topic(topic).await?;
    let views = controller.view();
    wait::until(clock, "the topic to have leaders", async || {
        let view = views.borrow().clone();
        let topic = view.topics.get(TOPIC).ok_or("no topic yet")?;
        let led = topic
            .partitions
            .iter()
            .filter(|p| p.leader.is_some())
            .count();
        if led == topic.partitions.len() {
            Ok(())
        } else {
            Err(format!("{led} of {} have", topic.partitions.len()))
        }
    })
    .await
}
