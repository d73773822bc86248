//! A disk that writes back in any order. It follows a data directory through [`Watcher`]: of every file it knows what
//! the last sync of it left and what it is now, of every directory the names since its last sync. A power cut leaves of
//! each page (4 KiB) the old or the new bytes, of each file a length it had or one at a page's end, and of each
//! directory the names of some moment.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whimbrel_log::calls::{Call, Watcher};

use crate::support::{Crashed, quick_dir};

const PAGE: usize = 4096;

#[derive(Debug, Default)]
struct Pages {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// Since the sync.
    lengths: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Entry {
    File(u64),
    Dir,
}

type Names = BTreeMap<PathBuf, Entry>;

#[derive(Debug, Default)]
struct Known {
    files: HashMap<u64, Pages>,
    /// The first is synced, the last is as it is now.
    names: BTreeMap<PathBuf, Vec<Names>>,
}

/// Is asked at every call: what it does with the platter is its own affair.
pub trait Viewer: std::fmt::Debug + Send + Sync {
    fn view(&self, platter: &Platter);
}

#[derive(Debug)]
pub struct Platter {
    root: PathBuf,
    known: Mutex<Known>,
    random: Mutex<StdRng>,
    viewer: Box<dyn Viewer>,
}

impl Known {
    fn look(&mut self, dir: &Path, root: &Path) {
        let mut names = Names::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let is_dir = path.is_dir();
            if is_dir {
                self.look(&path, root);
            }
            let name = path.file_name().unwrap().into();
            let found = match is_dir {
                true => Entry::Dir,
                false => Entry::File(self.read(&path)),
            };
            names.insert(name, found);
        }
        let place = dir.strip_prefix(root).unwrap().to_owned();
        let since = self
            .names
            .entry(place)
            .or_insert_with(|| vec![Names::new()]);
        if since.last() != Some(&names) {
            since.push(names);
        }
    }

    fn read(&mut self, path: &Path) -> u64 {
        let number = fs::metadata(path).unwrap().ino();
        let pages = self.files.entry(number).or_default();
        pages.now = fs::read(path).unwrap();
        if pages.lengths.last() != Some(&pages.now.len()) {
            pages.lengths.push(pages.now.len());
        }
        number
    }

    fn is_synced(&mut self, path: &Path, root: &Path) {
        // One that has no name any more comes back under none.
        let Ok(meta) = fs::metadata(path) else { return };
        if meta.is_dir() {
            let place = path.strip_prefix(root).unwrap();
            let names = self.names.get_mut(place).unwrap();
            names.drain(..names.len() - 1);
        } else {
            self.files.get_mut(&meta.ino()).unwrap().settle();
        }
    }

    fn all_is_synced(&mut self) {
        self.files.values_mut().for_each(Pages::settle);
        for names in self.names.values_mut() {
            names.drain(..names.len() - 1);
        }
    }
}

impl Pages {
    fn settle(&mut self) {
        self.synced.clone_from(&self.now);
        self.lengths = vec![self.now.len()];
    }

    fn after_a_cut(&self, random: &mut StdRng) -> Vec<u8> {
        if self.synced == self.now {
            return self.now.clone();
        }
        let (short, long) = (self.synced.len(), self.now.len());
        let length = match random.random_range(0..4) {
            0 => short,
            1 => self.lengths[random.random_range(0..self.lengths.len())],
            2 if short < long => {
                let page = random.random_range(short / PAGE..=long / PAGE);
                (page * PAGE).clamp(short, long)
            }
            _ => long,
        };
        // Often all or nothing, as of a file whose pages go out together.
        let chance = [0.0, 0.3, 0.7, 1.0][random.random_range(0..4)];
        let mut bytes = vec![0; length];
        for (at, page) in bytes.chunks_mut(PAGE).enumerate() {
            let from = match random.random_bool(chance) {
                true => &self.now,
                false => &self.synced,
            };
            let there = from.get(at * PAGE..).unwrap_or_default();
            let there = &there[..there.len().min(page.len())];
            page[..there.len()].copy_from_slice(there);
        }
        bytes
    }
}

impl Platter {
    /// Of a directory that is wholly synced.
    pub fn new(root: &Path, seed: u64, viewer: Box<dyn Viewer>) -> Platter {
        let mut known = Known::default();
        known.look(root, root);
        known.all_is_synced();
        Platter {
            root: root.to_owned(),
            known: Mutex::new(known),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            viewer,
        }
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.random.lock().random_bool(probability)
    }

    /// What a power cut at this moment leaves.
    pub fn cut_power(&self) -> Crashed {
        let mut known = self.known.lock();
        known.look(&self.root, &self.root);
        let dir = quick_dir();
        let root = dir.path().join("data");
        let mut random = self.random.lock();
        let mut written = HashMap::new();
        let mut places = vec![PathBuf::new()];
        while let Some(place) = places.pop() {
            fs::create_dir_all(root.join(&place)).unwrap();
            let moments = &known.names[&place];
            for (name, entry) in &moments[random.random_range(0..moments.len())] {
                let place = place.join(name);
                match entry {
                    Entry::Dir => places.push(place),
                    Entry::File(number) => {
                        let bytes = written
                            .entry(*number)
                            .or_insert_with(|| known.files[number].after_a_cut(&mut random));
                        fs::write(root.join(place), bytes).unwrap();
                    }
                }
            }
        }
        Crashed::in_dir(dir)
    }
}

impl Watcher for Platter {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        self.known.lock().look(&self.root, &self.root);
        self.viewer.view(self);
        if call == Call::Sync {
            self.known.lock().is_synced(path, &self.root);
        }
        Ok(())
    }

    fn before_sync_of_disk(&self, _root: &Path) -> io::Result<()> {
        self.known.lock().look(&self.root, &self.root);
        self.viewer.view(self);
        self.known.lock().all_is_synced();
        Ok(())
    }
}
