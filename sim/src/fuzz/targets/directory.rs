//! A broker's data directory of which one file is damaged: everything that opening and reading a log reads.

use std::{
    cell::OnceCell,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use uuid::Uuid;
use whimbrel_log::{AppendContext, Disk, DiskOptions, Health, LogConfig};
use whimbrel_wire::BatchBuilder;

use super::{Said, Target};
use crate::fuzz::Random;

pub const TARGETS: [Target; 1] = [Target {
    name: "data directory",
    run: open,
    seed,
    mend: super::nothing,
    // Files of a few KiB: buffers, indexes and maps of a disk with one log.
    budget: |length| (4 << 20) + 64 * length,
    rarity: 40,
}];

/// A directory as a crash leaves it: files and what is in them.
struct Image {
    files: Vec<(PathBuf, Vec<u8>)>,
    place: TempDir,
}

thread_local! {
    static IMAGE: OnceCell<Option<Image>> = const { OnceCell::new() };
}

fn options(root: &Path) -> DiskOptions {
    DiskOptions {
        root: root.to_owned(),
        cluster_id: "fleet".to_owned(),
        node_id: 1,
    }
}

/// In memory, where that is to be had: thousands of them are written.
fn folder() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    }
}

impl Image {
    fn make() -> anyhow::Result<Self> {
        let made = folder()?;
        let (disk, _) = Disk::open(options(made.path()), 1)?;
        let config = LogConfig {
            segment_bytes: 2_048,
            index_interval_bytes: 300,
            ..LogConfig::default()
        };
        let log = disk.create("t", Uuid::from_u128(7), 0, config)?;
        for epoch in 0..3 {
            log.begin_epoch(epoch)?;
            for n in 0..10 {
                let mut builder = BatchBuilder::new(0).producer(5, 0, epoch * 10 + n);
                builder.add(i64::from(n), Some(b"k"), Some(&[b'v'; 300]), &[])?;
                log.append(builder.finish()?, AppendContext::new(epoch, 5))?;
            }
            disk.sync()?;
        }
        disk.close()?;
        let mut files = Vec::new();
        collect(made.path(), made.path(), &mut files)?;
        files.sort();
        Ok(Self {
            files,
            place: folder()?,
        })
    }

    /// Writes the directory with other content in one of its files.
    fn write(&self, changed: usize, content: &[u8]) -> std::io::Result<PathBuf> {
        let root = self.place.path().join("data");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for (number, (path, whole)) in self.files.iter().enumerate() {
            let path = root.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, if number == changed { content } else { whole })?;
        }
        Ok(root)
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.push((path.strip_prefix(root)?.to_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

fn with_image<T>(work: impl FnOnce(&Image) -> T) -> Option<T> {
    IMAGE.with(|image| image.get_or_init(|| Image::make().ok()).as_ref().map(work))
}

fn open(input: &[u8]) -> Said {
    let Some((first, content)) = input.split_first() else {
        return Ok("short".to_owned());
    };
    let written = with_image(|image| {
        let changed = usize::from(*first) % image.files.len();
        let name = image.files[changed].0.display().to_string();
        image.write(changed, content).map(|root| (root, name))
    });
    let Some(Ok((root, name))) = written else {
        return Err("no directory to damage".to_owned());
    };
    let (_disk, logs) = match Disk::open(options(&root), 1) {
        Ok(opened) => opened,
        Err(error) => return Ok(format!("{name}: {error}")),
    };
    let mut said = name;
    for log in logs {
        let offsets = log.offsets();
        said.push_str(&format!("{:?}", log.health()));
        if offsets.log_start > offsets.log_end {
            return Err(format!("{offsets:?}"));
        }
        if log.health() != Health::Good {
            continue;
        }
        let read = log.read(offsets.log_start, 1 << 20, true, offsets.log_end);
        said.push_str(&super::outcome(&read));
        said.push_str(&super::outcome(&log.offset_for_timestamp(3)));
        said.push_str(&super::outcome(&log.aborted(0, i64::MAX)));
        let _ = (log.lineage(), log.append_time_of(5));
    }
    Ok(said)
}

fn seed(random: &mut Random) -> Vec<u8> {
    let file = with_image(|image| {
        let number = random.below(image.files.len());
        let first = u8::try_from(number).unwrap_or(0);
        [&[first], &image.files[number].1[..]].concat()
    });
    file.unwrap_or_default()
}
