//! Each scenario counts acknowledged records against what can be read afterwards.

use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use whimbrel_chaos::{
    links::Links,
    relay::Relays,
    scenario::{
        Report, ScenarioError, Setup, home_killed, home_paused, member_lost, region_cut,
        region_cut::Clients, store_away, tiering_paused,
    },
    toxiproxy::ToxiproxyServer,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

/// One fleet at a time: nine processes are enough for two cores, and ports are looked for one after the other.
pub static ONE: Mutex<()> = Mutex::const_new(());

struct Stage {
    setup: Setup,
    folder: Option<tempfile::TempDir>,
    _one: MutexGuard<'static, ()>,
}

impl Stage {
    async fn new() -> Self {
        let one = ONE.lock().await;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let setup = Setup {
            binary: super::binary::whimbrel(),
            folder: folder.path().to_owned(),
            tasks: Tasks::new(Shutdown::new()),
            clock: Clock::system(),
        };
        Self {
            setup,
            folder: Some(folder),
            _one: one,
        }
    }

    async fn judge(mut self, found: Result<Report, ScenarioError>) {
        self.setup.tasks.stop(Duration::from_secs(5)).await;
        let good = found.as_ref().is_ok_and(Report::held);
        if !good {
            let kept = self.folder.take().unwrap().keep();
            println!("logs, data and history.json are kept in {}", kept.display());
        }
        let report = found.unwrap();
        println!("{report:#?}");
        assert!(report.acked > 0);
        assert!(
            report.held(),
            "{} lost, {:?} stated; {:#?}",
            report.lost,
            report.bound,
            report.violations
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_of_the_home_is_killed_under_load() {
    let stage = Stage::new().await;
    let found = home_killed::run(&stage.setup).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_paused_past_its_lease_acknowledges_nothing() {
    let stage = Stage::new().await;
    let found = home_paused::run(&stage.setup).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_three_loses_one_broker_after_the_other_and_nothing_else() {
    let stage = Stage::new().await;
    let found = member_lost::run(&stage.setup).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiering_daemon_that_was_stopped_goes_on_beside_the_one_that_took_its_shards() {
    let stage = Stage::new().await;
    let found = tiering_paused::run(&stage.setup).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_cut_off_with_the_controllers_leader_is_fenced() {
    let stage = Stage::new().await;
    let links = Links::Relay(Relays::new(&stage.setup.tasks));
    let found = region_cut::run(&stage.setup, &links, Clients::CutOff).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reach_both_regions_leave_a_home_that_is_cut_off_from_the_fleet() {
    let stage = Stage::new().await;
    let links = Links::Relay(Relays::new(&stage.setup.tasks));
    let found = region_cut::run(&stage.setup, &links, Clients::ReachBoth).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_reach_both_regions_leave_a_home_that_toxiproxy_cut_off() {
    if !super::peers("the home cut off by Toxiproxy") {
        return;
    }
    let stage = Stage::new().await;
    let server = ToxiproxyServer::start(&stage.setup.folder, &stage.setup.clock)
        .await
        .expect("WHIMBREL_TOXIPROXY names no binary")
        .unwrap();
    let links = Links::toxiproxy(server.client.clone());
    let found = region_cut::run(&stage.setup, &links, Clients::ReachBoth).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_cut_by_toxiproxy_loses_no_more_than_was_stated() {
    if !super::peers("the region cut by Toxiproxy") {
        return;
    }
    let stage = Stage::new().await;
    let server = ToxiproxyServer::start(&stage.setup.folder, &stage.setup.clock)
        .await
        .expect("WHIMBREL_TOXIPROXY names no binary")
        .unwrap();
    let links = Links::toxiproxy(server.client.clone());
    let found = region_cut::run(&stage.setup, &links, Clients::CutOff).await;
    stage.judge(found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_minute_costs_nothing() {
    if !super::peers("the absence of MinIO") {
        return;
    }
    let stage = Stage::new().await;
    let found = store_away::run(&stage.setup).await;
    stage.judge(found).await;
}
