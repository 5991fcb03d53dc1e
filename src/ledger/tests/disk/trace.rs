//! What the shim wrote down: every operation on the folder, in order.

use std::ops::Range;
use std::path::Path;

/// One operation. Positions are offsets in the trace.
#[derive(Debug)]
pub(crate) struct Record {
    /// It was done before the trace got longer than this.
    pub(crate) end: u64,
    pub(crate) operation: Operation,
}

#[derive(Debug)]
pub(crate) enum Operation {
    /// From here on, `file` is the one of this name.
    Open {
        file: u32,
        name: String,
        made: bool,
    },
    /// The bytes stand in the trace.
    Write {
        file: u32,
        at: usize,
        bytes: Range<usize>,
    },
    Truncate {
        file: u32,
        length: usize,
    },
    /// Everything that ended before `began` is durable.
    Sync {
        file: u32,
        began: u64,
    },
    /// The system gave up on everything that ended before `began`: it may be on the disk or not, and no later sync changes that.
    FailedSync {
        file: u32,
        began: u64,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
}

/// The whole of it.
pub(crate) struct Trace {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Record>,
}

/// Kind, file, a number, and the length of what follows.
const HEAD_BYTES: usize = 24;

impl Trace {
    /// A last record that was cut off by a kill is left out.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some((operation, end)) = read_one(&bytes, at) {
            records.push(Record { end: end as u64, operation });
            at = end;
        }
        Self { bytes, records }
    }
}

fn read_one(bytes: &[u8], start: usize) -> Option<(Operation, usize)> {
    let head = bytes.get(start..start + HEAD_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().unwrap());
    let long = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().unwrap());
    let (kind, file, number) = (word(0), word(4), long(8));
    let tail = start + HEAD_BYTES..start + HEAD_BYTES + long(16) as usize;
    let name = String::from_utf8_lossy(bytes.get(tail.clone())?).into_owned();
    let end = tail.end;
    let operation = match kind {
        1 => Operation::Open { file, name, made: number == 1 },
        2 => Operation::Write { file, at: number as usize, bytes: tail },
        3 => Operation::Truncate { file, length: number as usize },
        4 => Operation::Sync { file, began: number },
        5 => Operation::Unlink { name },
        6 => {
            let (from, to) = name.split_once('/').unwrap();
            Operation::Rename { from: from.into(), to: to.into() }
        }
        7 => Operation::FailedSync { file, began: number },
        _ => panic!("record {kind} at {start}"),
    };
    Some((operation, end))
}
