//! A disk that fails to sync when told to, and forgets what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::Random;
use crate::log::OpenLogFile;
use crate::segment::LogFile;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

#[derive(Clone)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    files: BTreeMap<PathBuf, Platter>,
    /// Syncs until one fails.
    syncs_left: Option<u64>,
}

/// What of a file is on the disk, where the file itself is what the page cache has.
struct Platter {
    /// A file that takes the place of another of its name is another file.
    inode: u64,
    bytes: Vec<u8>,
    /// The sectors that the kernel knows it has yet to write.
    dirty: BTreeSet<u64>,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        let state = State { random: Random(seed), files: BTreeMap::new(), syncs_left: None };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn fail_sync_after(&self, syncs: u64) {
        self.state.lock().unwrap().syncs_left = Some(syncs);
    }

    pub(super) fn never_fail(&self) {
        self.state.lock().unwrap().syncs_left = None;
    }

    pub(super) fn opener(&self) -> OpenLogFile {
        let disk = self.clone();
        Box::new(move |file| Box::new(SimulatedFile::new(file, &disk)))
    }

    /// The page cache is gone: a file has what its disk has. Of what the kernel had yet to write,
    /// any sector may have been written.
    pub(super) fn lose_power(&self) {
        let state = &mut *self.state.lock().unwrap();
        for (path, platter) in &mut state.files {
            let Ok(cached) = fs::read(path) else { continue };
            platter.write_some(&cached, &mut state.random);
            fs::write(path, &platter.bytes).unwrap();
        }
    }
}

impl Platter {
    /// The dirty sectors get to the disk.
    fn write_all(&mut self, cached: &[u8]) {
        for sector in std::mem::take(&mut self.dirty) {
            self.write(sector, cached);
        }
    }

    /// Some of the dirty sectors get to the disk; the kernel takes all of them for written.
    fn write_some(&mut self, cached: &[u8], random: &mut Random) {
        let odds = [1, 2, 4, u64::MAX][random.below(4) as usize];
        for sector in std::mem::take(&mut self.dirty) {
            if !random.one_in(odds) {
                self.write(sector, cached);
            }
        }
    }

    fn write(&mut self, sector: u64, cached: &[u8]) {
        let start = (sector * SECTOR_BYTES) as usize;
        let end = cached.len().min(start + SECTOR_BYTES as usize);
        self.bytes[start..end].copy_from_slice(&cached[start..end]);
    }
}

struct SimulatedFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl SimulatedFile {
    /// A file that is new to the disk was synced when it was made.
    fn new(file: File, disk: &Disk) -> Self {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        let inode = file.metadata().unwrap().ino();
        let files = &mut disk.state.lock().unwrap().files;
        if files.get(&path).is_none_or(|platter| platter.inode != inode) {
            let bytes = fs::read(&path).unwrap();
            files.insert(path.clone(), Platter { inode, bytes, dirty: BTreeSet::new() });
        }
        Self { file, path, disk: disk.clone() }
    }
}

impl LogFile for SimulatedFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, bytes, offset)?;
        let end = offset + bytes.len() as u64;
        let mut state = self.disk.state.lock().unwrap();
        let platter = state.files.get_mut(&self.path).unwrap();
        platter.dirty.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(())
    }

    /// A sync that fails leaves the kernel nothing to write, so the next one succeeds.
    fn sync_data(&self) -> io::Result<()> {
        let cached = fs::read(&self.path)?;
        let state = &mut *self.disk.state.lock().unwrap();
        let platter = state.files.get_mut(&self.path).unwrap();
        let fails = state.syncs_left == Some(0);
        state.syncs_left = state.syncs_left.and_then(|left| left.checked_sub(1));
        if fails {
            platter.write_some(&cached, &mut state.random);
            return Err(io::Error::other("the disk is gone"));
        }
        platter.write_all(&cached);
        Ok(())
    }
}
