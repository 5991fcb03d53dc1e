//! What the disk could do: a loop that appends and syncs, and nothing else.

use crate::Failure;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// What one hold or settle must leave on a disk at least: four balances and a line of the journal.
pub(crate) const OPERATION_BYTES: usize = 512;

/// Operations a second, where so many share one append and one sync.
pub(crate) fn raw_loop(folder: &Path, batch: usize, duration: Duration) -> Result<f64, Failure> {
    let path = folder.join("raw");
    let mut file = File::create(&path)?;
    let block = vec![0x5a; batch * OPERATION_BYTES];
    let begin = Instant::now();
    let mut syncs = 0.0;
    while begin.elapsed() < duration {
        file.write_all(&block)?;
        file.sync_data()?;
        syncs += 1.0;
    }
    let rate = syncs * batch as f64 / begin.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Transactions that SQLite has committed to this file, by the counter in the index of its log; it wraps around.
pub(crate) fn commits(file: &Path) -> Result<u32, Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push("-shm");
    let mut index = File::open(name)?;
    // The third word of the header: https://sqlite.org/walformat.html
    index.seek(SeekFrom::Start(8))?;
    let mut counter = [0; 4];
    index.read_exact(&mut counter)?;
    Ok(u32::from_ne_bytes(counter))
}
