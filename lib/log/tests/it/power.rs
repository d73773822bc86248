//! Power cuts on a real ext4: the data directory lies in a loop-mounted image, which is copied before every
//! sync and at the first call after it. Each copy is mounted, as after the power came back, and opened.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use whimbrel_log::calls::{Call, Watch, Watcher, watch};
use whimbrel_log::{AppendContext, Disk, Health, Log};
use whimbrel_wire::Batches;

use crate::support::{ID, TOPIC, batch, open, produced, read_all, small_segments};

const IMAGE_BYTES: u64 = 48 << 20;

fn run(program: &str, args: &[&str]) -> bool {
    let done = Command::new(program).args(args).output();
    done.is_ok_and(|done| done.status.success())
}

/// A mounted image.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn new(image: &Path, at: PathBuf) -> Option<Mounted> {
        fs::create_dir_all(&at).unwrap();
        let paths = (image.to_str().unwrap(), at.to_str().unwrap());
        run("mount", &["-o", "loop", paths.0, paths.1]).then_some(Mounted { at })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.at.to_str().unwrap()]);
    }
}

/// What was acknowledged when a copy was made, in the first film.
#[derive(Debug, Clone, Default)]
struct Promise {
    /// The lowest end the log may have.
    end: i64,
    epoch: i32,
}

/// Copies the image at each sync, together with what is promised at that moment.
#[derive(Debug)]
pub struct Camera<P> {
    image: PathBuf,
    to: PathBuf,
    state: Mutex<Film<P>>,
}

#[derive(Debug, Default)]
struct Film<P> {
    promise: P,
    /// The call before was a sync.
    after_sync: bool,
    shots: Vec<(PathBuf, P)>,
}

impl<P> Camera<P> {
    pub fn promise(&self, change: impl FnOnce(&mut P)) {
        change(&mut self.state.lock().promise);
    }
}

impl<P: Clone + std::fmt::Debug + Send> Watcher for Camera<P> {
    fn before(&self, call: Call, _path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let due = std::mem::replace(&mut state.after_sync, call == Call::Sync);
        if due || call == Call::Sync {
            let shot = self.to.join(format!("{}.img", state.shots.len()));
            // Sparse: most of the image is never written.
            let paths = (self.image.to_str().unwrap(), shot.to_str().unwrap());
            assert!(run("cp", &["--sparse=always", paths.0, paths.1]));
            let promise = state.promise.clone();
            state.shots.push((shot, promise));
        }
        Ok(())
    }
}

/// Where everything is to be tried, what cannot be tried fails, unless the machine is said to mount nothing.
pub fn passed_over(why: &str) -> String {
    let is = |name, value| std::env::var_os(name).is_some_and(|v| v == value);
    let must = is("CI", "true") && !is("WHIMBREL_MOUNTS", "0");
    assert!(!must, "no power is cut: {why}");
    format!("no power is cut: {why}")
}

/// An ext4 of its own.
pub struct Studio {
    mounted: Mounted,
    image: PathBuf,
    dir: tempfile::TempDir,
}

impl Studio {
    /// # Errors
    /// Where there is no root, no loop device or no `mkfs.ext4`, what is missing.
    pub fn new() -> Result<Studio, &'static str> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        if !run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]) {
            return Err("mkfs.ext4 cannot be run");
        }
        // Only root mounts; the other tests of this folder need nobody.
        let mounted = Mounted::new(&image, dir.path().join("mounted"))
            .ok_or("no loop image is mounted, not root or no loop device")?;
        Ok(Studio {
            mounted,
            image,
            dir,
        })
    }

    pub fn root(&self) -> PathBuf {
        self.mounted.at.join("data")
    }

    pub fn camera<P>(&self) -> (Arc<Camera<P>>, Watch)
    where
        P: Clone + Default + std::fmt::Debug + Send + 'static,
    {
        let camera = Arc::new(Camera {
            image: self.image.clone(),
            to: self.dir.path().to_owned(),
            state: Mutex::default(),
        });
        let watch = watch(&self.root(), camera.clone());
        (camera, watch)
    }

    /// Puts the power on again behind each shot. Nothing has a file open any more.
    pub fn develop<P>(self, camera: &Camera<P>, check: impl Fn(&Path, &P, usize)) -> usize {
        let shots = std::mem::take(&mut camera.state.lock().shots);
        drop(self.mounted);
        for (number, (shot, promise)) in shots.iter().enumerate() {
            let mounted = Mounted::new(shot, self.dir.path().join("again")).unwrap();
            check(&mounted.at.join("data"), promise, number);
            drop(mounted);
            fs::remove_file(shot).unwrap();
        }
        shots.len()
    }
}

#[test]
fn a_power_cut_at_any_sync_keeps_what_was_acknowledged() {
    let studio = match Studio::new() {
        Ok(studio) => studio,
        Err(why) => return eprintln!("{}", passed_over(why)),
    };
    let (disk, _) = open(&studio.root()).unwrap();
    let log = disk.create(TOPIC, ID, 0, small_segments()).unwrap();
    log.begin_epoch(0).unwrap();
    disk.sync().unwrap();
    let (camera, watch) = studio.camera();
    film(&camera, &disk, &log);
    drop(watch);
    drop((disk, log));
    let shots = studio.develop(&camera, check);
    assert!(shots > 40, "{shots}");
}

/// Appends and syncs, with checkpoints, a truncation, a new epoch and retention in between.
fn film(camera: &Camera<Promise>, disk: &Disk, log: &Log) {
    let (mut epoch, mut sequence) = (0, 0);
    for n in 0..18 {
        for _ in 0..2 {
            log.append(
                produced(4, 0, sequence, 3),
                AppendContext::new(epoch, 1000 * n),
            )
            .unwrap();
            sequence += 3;
            log.append(batch(n, 2), AppendContext::new(epoch, 1000 * n))
                .unwrap();
        }
        disk.sync().unwrap();
        camera.promise(|promise| promise.end = log.offsets().durable_end);
        match n {
            4 | 14 => disk.checkpoint().unwrap(),
            6 | 12 => disk.flush_durable_points().unwrap(),
            8 => {
                let to = log.offsets().log_end - 10;
                camera.promise(|promise| promise.end = to);
                log.truncate(epoch, to).unwrap();
                epoch = 3;
                log.begin_epoch(epoch).unwrap();
                camera.promise(|promise| promise.epoch = epoch);
                sequence -= 6;
            }
            16 => drop(log.set_log_start(20).unwrap()),
            _ => {}
        }
    }
}

fn check(root: &Path, promise: &Promise, number: usize) {
    let (disk, logs) = open(root).unwrap();
    let log = &logs[0];
    let offsets = log.offsets();
    assert_eq!(log.health(), Health::Good, "cut {number}");
    assert!(
        offsets.log_end >= promise.end,
        "cut {number}: {offsets:?} {promise:?}"
    );
    let lineage = log.lineage();
    assert!(
        lineage
            .last()
            .is_none_or(|last| last.epoch >= promise.epoch),
        "cut {number}"
    );
    let mut next = offsets.local_log_start;
    for one in Batches::new(read_all(log, next).into()) {
        let one = one.unwrap();
        one.verify_crc().unwrap();
        assert!(one.header.base_offset <= next, "cut {number}");
        next = one.header.next_offset();
    }
    assert_eq!(next, offsets.log_end, "cut {number}");
    let more = lineage.last().map_or(0, |last| last.epoch) + 1;
    log.begin_epoch(more).unwrap();
    log.append(batch(99, 1), AppendContext::new(more, 1))
        .unwrap();
    disk.sync().unwrap();
    drop((disk, logs));
}
