//! A fleet that is brought into the situations the pages are about.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::blocks;

const PATIENCE: Duration = Duration::from_secs(60);

/// `whimbrel dev --separate` with one topic in it.
pub struct Situation {
    _ports: whimbrel_dev::FreePorts,
    folder: tempfile::TempDir,
    dev: Child,
    /// Processes of a region that was lost and started again; they are ours, not `dev`'s.
    returned: Vec<Child>,
}

impl Drop for Situation {
    fn drop(&mut self) {
        for child in &mut self.returned {
            let _already_gone = child.kill();
            let _status = child.wait();
        }
        // SIGTERM, so that `dev` ends its own children.
        let _sent = Command::new("kill").arg(self.dev.id().to_string()).status();
        let _status = self.dev.wait();
        if std::thread::panicking() {
            println!(
                "the fleet's files are kept in {}",
                self.folder.path().display()
            );
            self.folder.disable_cleanup(true);
        }
    }
}

impl Situation {
    pub fn start() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let ports = whimbrel_dev::FreePorts::find().unwrap();
        let log = std::fs::File::create(folder.path().join("dev.log")).unwrap();
        let dev = Command::new(env!("CARGO_BIN_EXE_whimbrel"))
            .args([
                "dev",
                "--separate",
                "--port",
                &ports.base().to_string(),
                "--data-dir",
            ])
            .arg(folder.path().join("fleet"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut fleet = Self {
            _ports: ports,
            folder,
            dev,
            returned: Vec::new(),
        };
        fleet.up();
        fleet.done("whimbrel topic create runbook --config segment.bytes=65536");
        fleet.wait("echo before | whimbrel topic produce runbook");
        fleet.done("seq 1 20000 | whimbrel topic produce runbook");
        fleet
    }

    /// Waits until `dev` says where all is, which it may fail to do.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real processes: only real time counts"
    )]
    fn up(&mut self) {
        let begun = Instant::now();
        while whimbrel_dev::Manifest::read(&self.data_dir()).is_err() {
            let ended = self.dev.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "dev is not up, its end: {ended:?}; it says: {}",
                std::fs::read_to_string(self.folder.path().join("dev.log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.wait("whimbrel status");
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    /// A command as an operator types it, in a shell that finds the program and the fleet.
    fn shell(&self, command: &str) -> Output {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_whimbrel"));
        let path = format!(
            "{}:{}",
            binary.parent().unwrap().display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let script = format!("{{ {command}\n}} 2>&1");
        Command::new("sh")
            .args(["-c", &script])
            .env("PATH", path)
            .env("WHIMBREL_FLEET", self.data_dir())
            .env("DATA_DIR", self.data_dir().join("east").join("data"))
            .env_remove("WHIMBREL_OUTPUT")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn done(&self, command: &str) {
        let output = self.shell(command);
        assert!(
            output.status.success(),
            "{command}:\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }

    /// Repeats a command until it succeeds.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real processes: only real time counts"
    )]
    fn wait(&self, command: &str) {
        let begun = Instant::now();
        loop {
            let output = self.shell(command);
            if output.status.success() {
                return;
            }
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                begun.elapsed() < PATIENCE,
                "{command} still fails after {PATIENCE:?}:\n{said}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn follow(&self, page: &str) {
        let text = std::fs::read_to_string(blocks::folder().join(page)).unwrap();
        self.run(page, &text);
    }

    /// The page up to a heading.
    pub fn follow_until(&self, page: &str, heading: &str) {
        let text = std::fs::read_to_string(blocks::folder().join(page)).unwrap();
        self.run(page, text.split(heading).next().unwrap());
    }

    /// The page from a heading on.
    pub fn follow_from(&self, page: &str, heading: &str) {
        let text = std::fs::read_to_string(blocks::folder().join(page)).unwrap();
        self.run(page, text.split_once(heading).unwrap().1);
    }

    fn run(&self, page: &str, text: &str) {
        for block in blocks::of(text) {
            let output = self.shell(&block.command);
            let said = String::from_utf8_lossy(&output.stdout);
            let exit = output.status.code();
            assert_eq!(exit, Some(block.exit), "{page}: {}\n{said}", block.command);
            if let Some(line) = blocks::missing(&block.expected, &said) {
                panic!("{page}: {}\ndoes not say `{line}`:\n{said}", block.command);
            }
        }
    }

    /// A planned move, whatever way the page is about.
    pub fn home(&self, region: &str) {
        self.wait(&format!(
            "whimbrel failback apply default --to {region} --yes"
        ));
    }

    /// The bucket's folder is gone and something that is no folder stands there, as when a mount has failed.
    pub fn bucket_away(&self) {
        let bucket = self.data_dir().join("bucket");
        std::fs::rename(&bucket, self.data_dir().join("bucket.away")).unwrap();
        std::fs::write(&bucket, "").unwrap();
        self.done("seq 20001 40000 | whimbrel topic produce runbook");
    }

    pub fn bucket_back(&self) {
        let bucket = self.data_dir().join("bucket");
        std::fs::remove_file(&bucket).unwrap();
        std::fs::rename(self.data_dir().join("bucket.away"), bucket).unwrap();
        self.wait("whimbrel tier verify --bytes");
    }

    /// One bit of one object of the home region is another now.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real processes: only real time counts"
    )]
    pub fn bend_object(&self) {
        let begun = Instant::now();
        while !self.objects().iter().any(|object| self.bends(object)) {
            assert!(begun.elapsed() < PATIENCE, "no object of the topic");
        }
    }

    /// Those that are large enough to be a segment's.
    fn objects(&self) -> Vec<PathBuf> {
        let list = Command::new("find")
            .arg(self.data_dir().join("bucket/v1/east/data"))
            .args(["-type", "f", "-size", "+40k"])
            .output()
            .unwrap();
        let listed = String::from_utf8(list.stdout).unwrap();
        listed.lines().map(PathBuf::from).collect()
    }

    /// Whether the object is one that a root names by now: only then it is missed. Else it is left as it was.
    fn bends(&self, object: &Path) -> bool {
        let sound = std::fs::read(object).unwrap();
        let mut bent = sound.clone();
        bent[1_000] ^= 1;
        std::fs::write(object, bent).unwrap();
        let verified = self.shell("whimbrel tier verify --bytes");
        let is_missed = verified.status.code() == Some(10);
        if !is_missed {
            std::fs::write(object, sound).unwrap();
        }
        is_missed
    }

    fn processes(&self, region: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.data_dir().join("dev.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let all = manifest["processes"].as_array().unwrap();
        all.iter()
            .filter(|p| p["region"] == region)
            .cloned()
            .collect()
    }

    /// SIGKILL for every process of the home, once it has reserved at the voters what it may acknowledge: just after a move it has not, and then
    /// the bound of a loss is unknown.
    pub fn lose(&self, region: &str) {
        let other = if region == "east" { "west" } else { "east" };
        self.wait(&format!(
            "whimbrel failover plan default --to {other} | grep -q 'data at risk  at most'"
        ));
        let pids: Vec<String> = self
            .processes(region)
            .iter()
            .map(|p| p["pid"].to_string())
            .collect();
        assert!(
            Command::new("kill")
                .arg("-9")
                .args(&pids)
                .status()
                .unwrap()
                .success()
        );
        self.wait("whimbrel status; test $? -eq 10");
    }

    /// Starts a region's processes again, by the commands in `dev.json`, and waits until it follows.
    pub fn bring_back(&mut self, region: &str) {
        for process in self.processes(region) {
            let command: Vec<&str> = process["command"]
                .as_array()
                .unwrap()
                .iter()
                .map(|w| w.as_str().unwrap())
                .collect();
            let child = Command::new(command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            self.returned.push(child);
        }
        self.wait("whimbrel status");
        self.wait(&format!("whimbrel failback plan default --to {region}"));
    }

    /// Every process ends on SIGTERM.
    pub fn stop(mut self) {
        for child in &mut self.returned {
            assert!(
                Command::new("kill")
                    .arg(child.id().to_string())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        for mut child in std::mem::take(&mut self.returned) {
            assert!(child.wait().unwrap().success());
        }
        assert!(
            Command::new("kill")
                .arg(self.dev.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        assert!(self.dev.wait().unwrap().success());
    }
}
