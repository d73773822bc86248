//! A fleet of real processes, and its bucket, which is a folder.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use whimbrel_dev::{Children, Layout, ProcessEntry, ProcessSpec, layout::regions};
use whimbrel_fleet::{RegionName, Role, naming};
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Shutdown, Tasks, random};

const DEADLINE: Duration = Duration::from_secs(90);

/// Each role is a process of its own.
pub struct Fleet {
    pub layout: Layout,
    pub children: Children,
    pub clock: Clock,
    tasks: Tasks,
}

impl Fleet {
    pub async fn start(folder: &Path, one_region: bool) -> Self {
        let mut layout = Layout::on_free_ports(folder.to_owned()).unwrap();
        layout.one_region = one_region;
        for setting in ["broker.cut-interval=500ms", "tiering.meta-interval=1s"] {
            layout.settings.push(setting.parse().unwrap());
        }
        let fleet_id = naming::cluster_id(random::uuid());
        let specs: Vec<ProcessSpec> = layout.processes(&fleet_id).unwrap();
        layout.write_configs(&specs).unwrap();
        let mut children = Children::default();
        for spec in &specs {
            children.start(&crate::binary::whimbrel(), spec).unwrap();
        }
        children.ready(DEADLINE).await.unwrap();
        let mut manifest = layout.manifest();
        manifest.processes = children.entries();
        manifest.write(&layout.data_dir).unwrap();
        Self {
            layout,
            children,
            clock: Clock::system(),
            tasks: Tasks::new(Shutdown::new()),
        }
    }

    pub fn controller(&self) -> ControllerClient {
        let voters = self.layout.controllers();
        ControllerClient::connect(voters, None, &self.tasks, self.clock.clone())
    }

    /// The folder that is the home's bucket.
    pub fn bucket(&self) -> PathBuf {
        let url = &self.layout.buckets[&regions()[0]];
        PathBuf::from(url.strip_prefix("file://").unwrap())
    }

    /// SIGKILL to one process, which is started again at once.
    pub async fn strike(&mut self, role: Role, region: &RegionName) {
        let all = self.children.entries();
        let is_it = |p: &&ProcessEntry| p.role == role && p.region == *region;
        let process = all.iter().find(is_it).unwrap();
        whimbrel_chaos::faults::kill(process).unwrap();
        let begun_ms = self.clock.boot_ms();
        while self.children.reap().is_empty() {
            assert!(
                self.clock.boot_ms() - begun_ms < 30_000,
                "{process:?} lives"
            );
            self.clock.sleep(Duration::from_millis(5)).await;
        }
        self.children.restart(region).unwrap();
    }

    pub fn bootstrap(&self) -> String {
        self.layout.manifest().bootstrap
    }

    /// What the binary says of this fleet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(crate::binary::whimbrel());
        command
            .args(arguments)
            .env("WHIMBREL_FLEET", &self.layout.data_dir)
            .stdin(Stdio::null());
        command
    }

    pub async fn run(&self, what: &str, arguments: &[&str]) -> Output {
        self.wait(what, || {
            let output = self.command(arguments).output().unwrap();
            output.status.success().then_some(output)
        })
        .await
    }

    pub async fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun_ms = self.clock.boot_ms();
        loop {
            if let Some(found) = look() {
                return found;
            }
            let waited = Duration::from_millis(self.clock.boot_ms() - begun_ms);
            assert!(waited < DEADLINE, "waited in vain for {what}");
            self.clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGKILL to all.
    pub fn kill(&mut self) {
        let names: BTreeSet<_> = self
            .children
            .entries()
            .into_iter()
            .map(|p| p.region)
            .collect();
        for region in names {
            self.children.kill_region(&region);
        }
    }
}

/// Files below `dir`, in an order of their own.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Object after object in any order, each as it is when its turn comes.
pub fn copy(from: &Path, to: &Path) {
    let mut left = files(from);
    let mut draw = random::uuid().as_u128();
    while !left.is_empty() {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let place = usize::try_from((draw >> 64) % left.len() as u128).unwrap();
        let path = left.swap_remove(place);
        let copied = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copied.parent().unwrap()).unwrap();
        // It may have been deleted meanwhile.
        let _gone = fs::copy(&path, &copied);
    }
}
