//! A queue of encoded batches on disk: what waits while the host is away.
//!
//! Layout of a folder: segments `<number, 20 digits>.seg` in the order of their numbers, and `position`. A segment is a run of
//! entries; an entry is, little-endian,
//!
//! ```text
//! u32 bytes of the payload | u32 crc32c of what follows | u8 signal (0 logs, 1 traces) | 3 zero bytes | u32 records | payload
//! ```
//!
//! where the payload is an OTLP export request (protobuf). `position` is `u64 segment | u64 offset | u32 crc32c of the two`: where
//! the first entry begins that was not taken yet. A segment is removed when its last entry is taken.
//!
//! Recovery: a segment is read until its end, or until the first entry that is cut or does not match its checksum; the rest of that
//! segment is lost, and said. Without a valid `position` the first segment is read from its start: what was taken already is sent
//! again, and the host keeps it once.
//!
//! Bounds: [`PAYLOAD_BYTES_MAX`] for an entry, a bound of bytes for the whole, checked before anything is written.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::{Batch, Signal, TARGET};

/// Bytes of a segment before the next is begun.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes of a payload at most.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 32 << 20;
const HEAD: usize = 16;
/// The number of the first segment of a new spool: there is room before it, for what must go to the front.
const FIRST: u64 = 1 << 32;

/// Why a batch was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The bound of bytes is reached.
    Full,
    /// The disk said no.
    Disk,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Refused::Disk
    }
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: u64,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    segments: VecDeque<Segment>,
    /// The last segment, open for more.
    tail: Option<File>,
    /// The first segment, open for reading, and where its next entry begins.
    head: Option<File>,
    offset: u64,
    bytes: u64,
    bytes_max: u64,
    dirty: bool,
}

impl Spool {
    /// Opens a folder, and makes it if there is none.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(folder: &Path, bytes_max: u64) -> io::Result<Spool> {
        std::fs::create_dir_all(folder)?;
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let number = stem.filter(|_| path.extension().is_some_and(|end| end == "seg"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                segments.push(Segment { number, bytes: std::fs::metadata(&path)?.len() });
            }
        }
        segments.sort_by_key(|segment| segment.number);
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        let mut spool = Spool {
            folder: folder.to_owned(),
            segments: segments.into(),
            tail: None,
            head: None,
            offset: 0,
            bytes,
            bytes_max,
            dirty: false,
        };
        let front = spool.segments.front();
        let position =
            spool.position().filter(|(number, _)| front.is_some_and(|front| front.number == *number));
        spool.offset = position.map_or(0, |(_, offset)| offset);
        spool.skip_ends()?;
        Ok(spool)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes on disk.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts a batch at the end.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), Refused> {
        let entry = encode(batch);
        if self.bytes + entry.len() as u64 > self.bytes_max {
            return Err(Refused::Full);
        }
        let fits = self.segments.back().is_some_and(|segment| segment.bytes < SEGMENT_BYTES);
        if self.tail.is_none() || !fits {
            self.sync();
            let number = self.segments.back().map_or(FIRST, |segment| segment.number + 1);
            self.tail = Some(self.create(number)?);
            self.segments.push_back(Segment { number, bytes: 0 });
        }
        let (Some(file), Some(segment)) = (&mut self.tail, self.segments.back_mut()) else {
            return Err(Refused::Full);
        };
        if let Err(error) = file.write_all(&entry) {
            // A part of an entry hides what follows it: cut it off, or write no more behind it.
            if file.set_len(segment.bytes).and_then(|()| file.seek(SeekFrom::End(0))).is_err() {
                self.tail = None;
            }
            self.forget_empty_tail();
            return Err(error.into());
        }
        segment.bytes += entry.len() as u64;
        self.bytes += entry.len() as u64;
        self.dirty = true;
        Ok(())
    }

    /// Puts batches before all others, in their order. Their bytes count, but are not refused.
    ///
    /// # Errors
    /// What the disk says; then none of them is there.
    pub(crate) fn prepend(&mut self, batches: &VecDeque<Batch>) -> io::Result<()> {
        if batches.is_empty() {
            return Ok(());
        }
        let first = self.segments.front().map_or(FIRST + 1, |segment| segment.number);
        if self.offset > 0 {
            // The first segment is taken in part: what goes before it would hide how far.
            return Err(io::Error::other("the first segment is in use"));
        }
        let number = first.checked_sub(1).ok_or_else(|| io::Error::other("no number is left"))?;
        let entries: Vec<u8> = batches.iter().flat_map(encode).collect();
        let mut file = self.create(number)?;
        if let Err(error) = file.write_all(&entries) {
            let _ = std::fs::remove_file(self.path(number));
            return Err(error);
        }
        self.segments.push_front(Segment { number, bytes: entries.len() as u64 });
        self.bytes += entries.len() as u64;
        self.head = None;
        Ok(())
    }

    /// The first batch, which stays.
    pub(crate) fn front(&mut self) -> Option<Batch> {
        while let Some(segment) = self.segments.front() {
            let number = segment.number;
            match self.entry(number) {
                Ok(Some(batch)) => return Some(batch),
                Ok(None) => {}
                Err(error) => {
                    let path = self.path(number);
                    tracing::warn!(target: TARGET, "{}: the rest of it is lost: {error}", path.display());
                }
            }
            self.remove_front();
        }
        None
    }

    /// Removes the first batch, which [`Spool::front`] gave.
    pub(crate) fn pop(&mut self, batch: &Batch) {
        self.offset += (HEAD + batch.payload.len()) as u64;
        if self.skip_ends().is_err() {
            self.remove_front();
        }
        if let Some(segment) = self.segments.front() {
            let mut text = Vec::with_capacity(20);
            text.extend(segment.number.to_le_bytes());
            text.extend(self.offset.to_le_bytes());
            text.extend(crc32c::crc32c(&text).to_le_bytes());
            // Lost, it costs a batch sent twice, which the host keeps once.
            let _ = std::fs::write(self.folder.join("position"), text);
        }
    }

    /// Makes what was appended survive the machine.
    pub(crate) fn sync(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Some(file) = &self.tail
        {
            let _ = file.sync_data();
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.seg"))
    }

    fn create(&self, number: u64) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self.path(number))
    }

    fn forget_empty_tail(&mut self) {
        if self.segments.back().is_some_and(|segment| segment.bytes == 0)
            && let Some(segment) = self.segments.pop_back()
        {
            let _ = std::fs::remove_file(self.path(segment.number));
            self.tail = None;
        }
    }

    /// Removes first segments that were taken to their end.
    fn skip_ends(&mut self) -> io::Result<()> {
        while self.segments.front().is_some_and(|segment| self.offset >= segment.bytes) {
            self.remove_front();
        }
        Ok(())
    }

    fn remove_front(&mut self) {
        let Some(segment) = self.segments.pop_front() else { return };
        let _ = std::fs::remove_file(self.path(segment.number));
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.offset = 0;
        self.head = None;
        if self.segments.is_empty() {
            self.tail = None;
            let _ = std::fs::remove_file(self.folder.join("position"));
        }
    }

    fn position(&self) -> Option<(u64, u64)> {
        let text = std::fs::read(self.folder.join("position")).ok()?;
        let (both, crc) = text.split_at_checked(16)?;
        let (number, offset) = both.split_at_checked(8)?;
        let valid = u32::from_le_bytes(crc.try_into().ok()?) == crc32c::crc32c(both);
        let read = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        Some((read(number)?, read(offset)?)).filter(|_| valid)
    }

    /// The next entry of the first segment; `None` at its end.
    fn entry(&mut self, number: u64) -> io::Result<Option<Batch>> {
        let length = self.segments.front().map_or(0, |segment| segment.bytes);
        if self.offset >= length {
            return Ok(None);
        }
        let file = match &mut self.head {
            Some(file) => file,
            None => {
                let file = File::open(self.folder.join(format!("{number:020}.seg")))?;
                self.head.insert(file)
            }
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut head = [0; HEAD];
        file.read_exact(&mut head)?;
        let word = |at: usize| {
            head.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let bytes = word(0) as usize;
        if bytes > PAYLOAD_BYTES_MAX || self.offset + (HEAD + bytes) as u64 > length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry is cut"));
        }
        let mut payload = vec![0; bytes];
        file.read_exact(&mut payload)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(head.get(8..).unwrap_or_default()), &payload);
        let signal = match head.get(8) {
            _ if crc != word(4) => None,
            Some(0) => Some(Signal::Logs),
            Some(1) => Some(Signal::Traces),
            _ => None,
        };
        let signal = signal.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "an entry does not match its checksum")
        })?;
        Ok(Some(Batch { signal, records: word(12), payload }))
    }
}

fn encode(batch: &Batch) -> Vec<u8> {
    let mut rest = vec![batch.signal as u8, 0, 0, 0];
    rest.extend(batch.records.to_le_bytes());
    rest.extend(&batch.payload);
    let mut out = Vec::with_capacity(HEAD + batch.payload.len());
    out.extend((batch.payload.len() as u32).to_le_bytes());
    out.extend(crc32c::crc32c(&rest).to_le_bytes());
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(number: u32, bytes: usize) -> Batch {
        let signal = if number.is_multiple_of(2) { Signal::Logs } else { Signal::Traces };
        Batch { signal, records: number, payload: vec![number as u8; bytes] }
    }

    fn drain(spool: &mut Spool) -> Vec<u32> {
        std::iter::from_fn(|| {
            let batch = spool.front()?;
            spool.pop(&batch);
            Some(batch.records)
        })
        .collect()
    }

    /// Random actions, the folder opened anew at any time, against a plain queue.
    #[derive(Clone, Debug)]
    enum Action {
        Append(usize),
        Take,
        Prepend(usize),
        Reopen,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => (0usize..2_000_000).prop_map(Action::Append),
            3 => Just(Action::Take),
            1 => (1usize..4).prop_map(Action::Prepend),
            1 => Just(Action::Reopen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_a_queue(actions in prop::collection::vec(action(), 1..40)) {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = Spool::open(folder.path(), 8 << 20).unwrap();
            let mut model: VecDeque<(u32, usize)> = VecDeque::new();
            for (number, action) in actions.into_iter().enumerate() {
                let number = number as u32 * 10;
                match action {
                    Action::Append(bytes) => match spool.append(&batch(number, bytes)) {
                        Ok(()) => model.push_back((number, bytes)),
                        Err(Refused::Full) => prop_assert!(spool.bytes() + (HEAD + bytes) as u64 > 8 << 20),
                        Err(Refused::Disk) => panic!("the disk said no"),
                    },
                    Action::Take => {
                        let found = spool.front();
                        prop_assert_eq!(found.as_ref().map(|found| found.records), model.pop_front().map(|(number, _)| number));
                        if let Some(found) = found {
                            spool.pop(&found);
                        }
                    }
                    Action::Prepend(count) => {
                        let more: VecDeque<Batch> = (0..count as u32).map(|at| batch(number + at, 10)).collect();
                        if spool.prepend(&more).is_ok() {
                            for found in more.iter().rev() {
                                model.push_front((found.records, 10));
                            }
                        }
                    }
                    Action::Reopen => {
                        drop(spool);
                        spool = Spool::open(folder.path(), 8 << 20).unwrap();
                    }
                }
                prop_assert_eq!(spool.is_empty(), model.is_empty());
            }
            let left: Vec<u32> = model.iter().map(|(number, _)| *number).collect();
            prop_assert_eq!(drain(&mut spool), left);
            prop_assert_eq!(spool.bytes(), 0);
        }
    }

    #[test]
    fn a_damaged_segment_loses_its_rest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        for number in 0..6 {
            spool.append(&batch(number, 1_500_000)).unwrap();
        }
        drop(spool);
        let first = folder.path().join(format!("{FIRST:020}.seg"));
        let mut bytes = std::fs::read(&first).unwrap();
        // In the second of three entries.
        bytes[2_000_000] ^= 1;
        std::fs::write(&first, &bytes).unwrap();
        let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
        assert_eq!(drain(&mut spool), [0, 3, 4, 5]);
    }

    #[test]
    fn a_cut_tail_is_no_batch() {
        for cut in [1, 5, HEAD as u64, 30] {
            let folder = tempfile::tempdir().unwrap();
            let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
            spool.append(&batch(1, 20)).unwrap();
            spool.append(&batch(2, 20)).unwrap();
            drop(spool);
            let path = folder.path().join(format!("{FIRST:020}.seg"));
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(2 * (HEAD as u64 + 20) - cut).unwrap();
            let mut spool = Spool::open(folder.path(), 1 << 30).unwrap();
            spool.append(&batch(3, 20)).unwrap();
            assert_eq!(drain(&mut spool), [1, 3], "cut by {cut}");
        }
    }
}
