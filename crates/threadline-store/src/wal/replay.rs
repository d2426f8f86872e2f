//! Reads the write-ahead log: which segments count, to which byte, and what batches they hold.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use threadline_model::disk::{Disk, DiskFile, OpenMode};
use threadline_model::schema::Table;

use super::format::{HEADER_BYTES, Header, RecordHead};
use super::{PerTable, segment_number, segment_path, slot};
use crate::{BatchId, StoreError, codec};

/// Longest segment that is read.
const SEGMENT_BYTES_MAX: u64 = 4 << 30;
/// Bytes moved at a time where a segment is written once more.
const HEAL_CHUNK_BYTES: usize = 1 << 20;

/// What to read.
pub(crate) struct Replay<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) node: [u8; 16],
    /// Rows up to here are left out.
    pub(crate) sealed: PerTable<i64>,
    /// Whether a segment may be reused while it is read; it then counts as vanished.
    pub(crate) live: bool,
    /// The last segment that counts, and its end, where they are known.
    pub(crate) until: Option<(u64, u64)>,
}

/// A batch that is there as a whole.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) table: Table,
    pub(crate) id: BatchId,
    pub(crate) time_us: i64,
    /// Rows that are not sealed, with `seq`.
    pub(crate) batches: Vec<RecordBatch>,
}

/// A segment that is there, and what is known of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) number: u64,
    pub(crate) last_seq: PerTable<i64>,
}

/// Takes a record's head and payload.
type VisitRecord<'a> = dyn FnMut(&RecordHead, &[u8]) -> Result<(), StoreError> + 'a;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last segment that counts, and its end.
    pub(crate) last: Option<(u64, u64)>,
    /// All segments that are there, void ones too.
    pub(crate) segments: Vec<Closed>,
    /// Last sequence numbers of whole batches.
    pub(crate) last_seq: PerTable<i64>,
    /// Above every sequence number that may have been given.
    pub(crate) next_seq: i64,
    /// Highest epoch.
    pub(crate) epoch: u64,
    /// Records that count.
    pub(crate) records: u64,
    /// Sequence numbers that were in segments which are gone: they must be sealed.
    pub(crate) gone: PerTable<i64>,
}

impl Log {
    /// Fails when a segment is missing whose rows are not sealed.
    pub(crate) fn check_gone(&self, dir: &Path, sealed: PerTable<i64>) -> Result<(), StoreError> {
        if self.gone.iter().zip(sealed).all(|(gone, sealed)| *gone <= sealed) {
            return Ok(());
        }
        Err(StoreError::corrupt(format!(
            "{}: a segment is missing; it held rows up to {:?} of logs and spans, sealed are those up to {sealed:?}",
            dir.display(),
            self.gone
        )))
    }
}

/// Reads the whole log in order.
///
/// # Errors
/// [`StoreError::Corrupt`] when something that counts is not as it was written; [`StoreError::Io`] with
/// [`ErrorKind::NotFound`] when a segment vanished meanwhile; whatever `visit` says.
pub(crate) fn replay(
    options: &Replay<'_>,
    visit: &mut dyn FnMut(Replayed) -> Result<(), StoreError>,
) -> Result<Log, StoreError> {
    let found = options.segments()?;
    let chain = options.chain(&found)?;
    let mut log = Log { next_seq: 1, ..Log::default() };
    if let Some(first) = chain.first()
        && first.header.previous != 0
    {
        log.gone = first.header.last_seq;
        log.last_seq = first.header.last_seq;
    }
    let mut closed: BTreeMap<u64, PerTable<i64>> = found.keys().map(|&number| (number, [0; 2])).collect();
    let mut batches = Assembly::default();
    let mut whole = log.last_seq;
    for (index, segment) in chain.iter().enumerate() {
        let next = chain.get(index + 1).map(|next| next.header.previous_end);
        let end = next.or(options.until.map(|(_, end)| end));
        log.next_seq = log.next_seq.max(segment.header.first_seq);
        log.epoch = log.epoch.max(segment.header.epoch);
        let mut last_seq = [0; 2];
        let end = options.read_segment(segment, end, &mut log, &mut |head, payload| {
            if let Some(last) = last_seq.get_mut(slot(head.table)) {
                *last = head.next_seq() - 1;
            }
            if batches.add(options, segment, head, payload, visit)?
                && let Some(last) = whole.get_mut(slot(head.table))
            {
                *last = head.next_seq() - 1;
            }
            Ok(())
        })?;
        closed.insert(segment.header.number, last_seq);
        log.last = Some((segment.header.number, end));
    }
    log.last_seq = whole;
    log.segments = closed.into_iter().map(|(number, last_seq)| Closed { number, last_seq }).collect();
    Ok(log)
}

struct Segment {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    header: Header,
}

impl Segment {
    fn corrupt(&self, offset: u64, what: &str) -> StoreError {
        StoreError::corrupt(format!("{} at {offset}: {what}", self.path.display()))
    }
}

impl Replay<'_> {
    fn io<'a>(&self, path: &'a Path) -> impl FnOnce(std::io::Error) -> StoreError + 'a {
        move |source| StoreError::io(format!("reading {}", path.display()), source)
    }

    /// All segments by number, with their headers.
    fn segments(&self) -> Result<BTreeMap<u64, Segment>, StoreError> {
        let entries = self.disk.list(self.dir).map_err(self.io(self.dir))?;
        let mut found = BTreeMap::new();
        let numbers = entries.iter().filter_map(|entry| segment_number(&entry.name));
        for number in numbers.filter(|&number| self.until.is_none_or(|(last, _)| number <= last)) {
            let path = segment_path(self.dir, number);
            let file = self.disk.open(&path, OpenMode::Read).map_err(self.io(&path))?;
            let header = self.header(&*file, &path, number)?;
            found.insert(number, Segment { file, path, header });
        }
        Ok(found)
    }

    fn header(&self, file: &dyn DiskFile, path: &Path, number: u64) -> Result<Header, StoreError> {
        let mut bytes = vec![0; HEADER_BYTES as usize];
        let result = match file.read_exact_at(0, &mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err("the header is cut off".to_owned()),
            Err(error) => return Err(self.io(path)(error)),
            Ok(()) => Header::parse(&bytes),
        };
        let wrong = match result {
            Ok(header) if header.number == number && header.node == self.node => return Ok(header),
            _ if self.live => return Err(self.vanished(path)),
            Ok(header) if header.node != self.node => "the segment is of another node".to_owned(),
            Ok(header) => format!("the header is that of segment {}", header.number),
            Err(what) => what,
        };
        Err(StoreError::corrupt(format!("{}: {wrong}", path.display())))
    }

    fn vanished(&self, path: &Path) -> StoreError {
        self.io(path)(std::io::Error::new(ErrorKind::NotFound, "the segment was reused meanwhile"))
    }

    /// The segments that count, oldest first: from the last one back over *previous*.
    fn chain<'s>(&self, found: &'s BTreeMap<u64, Segment>) -> Result<Vec<&'s Segment>, StoreError> {
        let mut chain = Vec::new();
        let mut next = found.last_key_value().map(|(_, segment)| segment);
        while let Some(segment) = next {
            if segment.header.previous >= segment.header.number {
                return Err(segment.corrupt(56, "the previous segment would be a later one"));
            }
            chain.push(segment);
            next = found.get(&segment.header.previous);
        }
        chain.reverse();
        Ok(chain)
    }

    /// Visits the records of a segment; its end. Without a given end, that is where the good records stop.
    fn read_segment(
        &self,
        segment: &Segment,
        end: Option<u64>,
        log: &mut Log,
        visit: &mut VisitRecord<'_>,
    ) -> Result<u64, StoreError> {
        let bytes = self.content(segment, end)?;
        let mut at = HEADER_BYTES;
        while end.is_none_or(|end| at < end) {
            let record =
                record_at(&bytes, at, &segment.header).filter(|(head, _)| head.first_seq >= log.next_seq);
            let Some((head, payload)) = record else { break };
            visit(&head, payload)?;
            log.next_seq = head.next_seq();
            log.records += 1;
            at += head.record_bytes();
        }
        let result = match end {
            Some(end) if at == end => Ok(()),
            Some(end) => {
                Err(segment.corrupt(at, &format!("no good record, although the segment counts up to {end}")))
            }
            None if self.live => Ok(()),
            None => {
                match synced_after(&bytes, at, &segment.header) {
                    Some(later) => Err(segment
                        .corrupt(at, &format!("no good record, although the one at {later} came after it"))),
                    None => Ok(()),
                }
            }
        };
        if self.live && (self.header(&*segment.file, &segment.path, segment.header.number)? != segment.header) {
            return Err(self.vanished(&segment.path));
        }
        result.map(|()| at)
    }

    fn content(&self, segment: &Segment, end: Option<u64>) -> Result<Vec<u8>, StoreError> {
        let len = segment.file.len().map_err(self.io(&segment.path))?;
        let want = end.unwrap_or(len).max(HEADER_BYTES);
        if want > len || want > SEGMENT_BYTES_MAX {
            return Err(segment.corrupt(len, &format!("the file ends here, {want} bytes should count")));
        }
        let mut bytes = vec![0; want as usize];
        segment.file.read_exact_at(0, &mut bytes).map_err(self.io(&segment.path))?;
        Ok(bytes)
    }
}

/// The record at an offset, when all of it is good.
fn record_at<'b>(bytes: &'b [u8], at: u64, header: &Header) -> Option<(RecordHead, &'b [u8])> {
    let bytes = bytes.get(usize::try_from(at).ok()?..)?;
    let head = RecordHead::parse(bytes)?;
    let payload_bytes = usize::try_from(head.payload_bytes).ok()?;
    let payload = bytes.get(super::RECORD_HEAD_BYTES..)?.get(..payload_bytes)?;
    let good = head.segment == header.number
        && head.epoch == header.epoch
        && head.rows > 0
        && head.part < head.parts
        && head.record_bytes() <= bytes.len() as u64
        && crc32c::crc32c(payload) == head.payload_crc;
    good.then_some((head, payload))
}

/// Offset of a good record behind `at` that was written when `at` had been synced.
fn synced_after(bytes: &[u8], at: u64, header: &Header) -> Option<u64> {
    let offsets = (at..bytes.len() as u64).step_by(8);
    offsets
        .skip(1)
        .find(|&offset| record_at(bytes, offset, header).is_some_and(|(head, _)| head.synced_to > at))
}

/// Puts the parts of batches together.
#[derive(Default)]
struct Assembly {
    pending: Option<Pending>,
}

struct Pending {
    first: RecordHead,
    next_part: u16,
    next_seq: i64,
    batches: Vec<RecordBatch>,
}

impl Assembly {
    /// Takes a record; whether a batch is now whole.
    fn add(
        &mut self,
        options: &Replay<'_>,
        segment: &Segment,
        head: &RecordHead,
        payload: &[u8],
        visit: &mut dyn FnMut(Replayed) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mut pending = match self.pending.take() {
            _ if head.part == 0 => {
                Pending { first: *head, next_part: 0, next_seq: head.first_seq, batches: Vec::new() }
            }
            Some(pending) if pending.continues_with(head) => pending,
            // The parts before are sealed and their segment is reused.
            _ => return Ok(false),
        };
        let sealed = options.sealed.get(slot(head.table)).copied().unwrap_or(0);
        if head.next_seq() - 1 > sealed {
            let batch = rows_after(head, payload, sealed).map_err(|error| {
                segment.corrupt(HEADER_BYTES, &format!("rows from {}: {error}", head.first_seq))
            })?;
            pending.batches.push(batch);
        }
        pending.next_part += 1;
        pending.next_seq = head.next_seq();
        if pending.next_part < head.parts {
            self.pending = Some(pending);
            return Ok(false);
        }
        let Pending { first, batches, .. } = pending;
        visit(Replayed { table: first.table, id: first.id, time_us: first.time_us, batches })?;
        Ok(true)
    }
}

impl Pending {
    fn continues_with(&self, head: &RecordHead) -> bool {
        (head.table, head.id, head.parts) == (self.first.table, self.first.id, self.first.parts)
            && head.part == self.next_part
            && head.first_seq == self.next_seq
    }
}

/// The rows of a record beyond `sealed`, with `seq`.
fn rows_after(head: &RecordHead, payload: &[u8], sealed: i64) -> Result<RecordBatch, String> {
    let batch = codec::decode(payload, head.uncompressed_bytes).map_err(|e| e.to_string())?;
    if batch.num_rows() != head.rows as usize {
        return Err(format!("{} rows, {} were promised", batch.num_rows(), head.rows));
    }
    let batch = codec::with_seq(head.table, &batch, head.first_seq).map_err(|e| e.to_string())?;
    let skip = usize::try_from(sealed.saturating_add(1).saturating_sub(head.first_seq)).unwrap_or(0);
    Ok(batch.slice(skip.min(batch.num_rows()), batch.num_rows().saturating_sub(skip)))
}

/// Writes what counts of a segment once more in place and syncs it (docs/formats.md, "Recovery", step 4).
pub(crate) fn heal(disk: &dyn Disk, dir: &Path, number: u64, end: u64) -> Result<(), StoreError> {
    let path = segment_path(dir, number);
    let again = || {
        let file = disk.open(&path, OpenMode::ReadWrite)?;
        let mut at = 0;
        while at < end {
            let mut chunk = vec![0; HEAL_CHUNK_BYTES.min((end - at) as usize)];
            file.read_exact_at(at, &mut chunk)?;
            file.write_at(at, &chunk)?;
            at += chunk.len() as u64;
        }
        file.sync()
    };
    again().map_err(|source| StoreError::io(format!("making {} durable", path.display()), source))
}
