//! Follows files as they grow, as `tail -F` does, and sends their lines within a fraction of a second.
//!
//! The file is the buffer: a place in it moves on only after the hub has taken what lies before it. While the hub is away nothing is read
//! further; what was sent and not answered is sent again, byte for byte, and kept once. The place outlives the process in a *state file*.
//! Where the process is killed between a reply and the next state, some lines may be sent twice, in other requests than before.
//!
//! A file is told by its *head*, the hash of its first bytes, not by its name or inode: renamed and new ones (rotation), truncated ones
//! and ones that were there before are told apart, also after a restart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::input::Lines;
use super::progress::Counters;
use super::sink::{Sink, SinkError};
use super::summary::Summary;
use super::{Options, Worker};

/// Bytes that are read at once, at most; a longer line is read in pieces.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a file that tell it from others.
const HEAD_BYTES: usize = 256;
/// How often files are looked at.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a file that was renamed is still read: its writer may not know yet.
const GRACE: Duration = Duration::from_secs(1);
/// First pause when the hub does not take what is sent, doubled up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Entries of a folder that are looked at for a file that was renamed.
const FOLDER_ENTRIES_MAX: usize = 10_000;
/// Bytes of a state file that are read.
const STATE_BYTES_MAX: u64 = 1 << 20;

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Bytes that the hub has.
    offset: u64,
    /// Lines in them.
    line: u64,
    /// Length of the head that was hashed.
    head_len: usize,
    /// Its SHA-256, in hex.
    head: String,
}

/// Places by path.
type State = BTreeMap<PathBuf, Place>;

/// Reads a state file; none that exists is an empty one.
fn read_state(path: &Path) -> Result<State, SinkError> {
    let wrong = |reason: String| {
        SinkError::Failed(format!("{}: {reason}; without the file all is sent from the start", path.display()))
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(wrong(error.to_string())),
        Ok(meta) if meta.len() > STATE_BYTES_MAX => return Err(wrong("too large for a state".to_owned())),
        Ok(_) => {}
    }
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| wrong(format!("no state of an import ({error})")))
}

/// Replaces a state file in one step.
fn write_state(path: &Path, state: &State) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// An open file.
#[derive(Debug)]
struct Opened {
    file: File,
    inode: (u64, u64),
    place: Place,
    /// Since when its name belongs to another file.
    renamed: Option<Instant>,
    /// A line is being passed over that is longer than any may be.
    passing: bool,
    /// Where what was sent last ends, taken or not: what is sent again must be the same.
    sent: Option<u64>,
}

impl Opened {
    /// Opens the file of a path at its place, if it is the file that the place is of.
    fn open(path: &Path, known: Option<&Place>) -> io::Result<Opened> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("no file: only files can be followed"));
        }
        let mut place = Place::default();
        if let Some(known) = known
            && known.offset <= meta.len()
            && head(&file, known.head_len)?.as_deref() == Some(known.head.as_str())
        {
            place = known.clone();
        }
        Ok(Opened { file, inode: (meta.dev(), meta.ino()), place, renamed: None, passing: false, sent: None })
    }

    /// Whole lines from its place on, at most about [`READ_BYTES`]. Until they are taken the same ones come again.
    fn lines(&mut self, line_bytes_max: usize, gone: bool) -> io::Result<Option<Vec<u8>>> {
        let there = self.file.metadata()?.len();
        if there <= self.place.offset {
            return Ok(None);
        }
        if let Some(end) = self.sent.filter(|end| (self.place.offset + 1..=there).contains(end)) {
            let len = usize::try_from(end - self.place.offset).map_err(io::Error::other)?;
            let mut text = vec![0; len];
            self.file.read_exact_at(&mut text, self.place.offset)?;
            return Ok(Some(text));
        }
        let mut text = Vec::new();
        loop {
            let mut piece = vec![0; READ_BYTES];
            let read = self.file.read_at(&mut piece, self.place.offset + text.len() as u64)?;
            text.extend_from_slice(piece.get(..read).unwrap_or_default());
            if self.passing {
                // The rest of a line that was told as too long already.
                let end = memchr::memchr(b'\n', &text);
                self.place.offset += end.map_or(text.len(), |end| end + 1) as u64;
                self.place.line += u64::from(end.is_some());
                self.passing = end.is_none();
                text.clear();
                if read == 0 {
                    return Ok(None);
                }
            } else if let Some(end) = memchr::memrchr(b'\n', &text) {
                text.truncate(end + 1);
                break;
            } else if text.len() > line_bytes_max {
                self.passing = true;
                break;
            } else if read == 0 {
                // Nobody ends the last line of a file that is left.
                if gone && !text.is_empty() {
                    break;
                }
                return Ok(None);
            }
        }
        self.sent = Some(self.place.offset + text.len() as u64);
        Ok(Some(text))
    }

    /// Moves on, after the hub has taken what lies before.
    fn taken(&mut self, bytes: u64, lines: u64) -> io::Result<()> {
        self.place.offset += bytes;
        self.place.line += lines;
        if self.place.head_len < HEAD_BYTES {
            let len = usize::try_from(self.place.offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
            if let Some(head) = head(&self.file, len)? {
                (self.place.head_len, self.place.head) = (len, head);
            }
        }
        Ok(())
    }
}

/// Hash of the first bytes; none where the file has fewer.
fn head(file: &File, len: usize) -> io::Result<Option<String>> {
    let mut bytes = vec![0; len.min(HEAD_BYTES)];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(Some(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path that is followed.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    name: Arc<str>,
    opened: Option<Opened>,
    /// What was told of it last, so that it is told once.
    told: String,
}

impl Followed {
    /// The file to read now: the one that is open, until its name has long been another's; then the new one.
    fn file(&mut self, state: &State) -> io::Result<Option<&mut Opened>> {
        let now = match std::fs::metadata(&self.path) {
            Ok(meta) => Some(meta),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(opened) = &mut self.opened {
            let is_ours = now.as_ref().is_none_or(|meta| (meta.dev(), meta.ino()) == opened.inode);
            if !is_ours && opened.renamed.is_none() {
                opened.renamed = Some(Instant::now());
            }
            if opened.file.metadata()?.len() < opened.place.offset {
                // Truncated: what is there now is new.
                opened.place = Place::default();
                (opened.passing, opened.sent) = (false, None);
            }
        } else if now.is_some() {
            let known = state.get(&self.path);
            let opened = Opened::open(&self.path, known)?;
            let old = match known {
                Some(known) if opened.place.offset == 0 && known.offset > 0 => self.old(known)?,
                _ => None,
            };
            self.opened = Some(old.unwrap_or(opened));
        }
        Ok(self.opened.as_mut())
    }

    /// The file of a place when it has another name by now: it was rotated while nobody followed it.
    fn old(&self, known: &Place) -> io::Result<Option<Opened>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(None) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        for entry in std::fs::read_dir(folder)?.take(FOLDER_ENTRIES_MAX) {
            let entry = entry?;
            let named = entry.file_name();
            let is_like = named.as_encoded_bytes().starts_with(name.as_encoded_bytes());
            if !is_like || named == name || !entry.file_type()?.is_file() {
                continue;
            }
            let mut opened = Opened::open(&entry.path(), Some(known))?;
            if opened.place.offset > 0 {
                opened.renamed = Some(Instant::now());
                return Ok(Some(opened));
            }
        }
        Ok(None)
    }
}

/// Follows files until it is told to stop; then sends what they have, and ends.
///
/// A file that is not there yet is waited for. What the hub does not take is told on standard error and tried again.
///
/// # Errors
/// When the state file cannot be read or written.
pub fn follow(
    options: &Options,
    state_path: Option<&Path>,
    sink: &dyn Sink,
    stop: &AtomicBool,
    tell: &dyn Fn(&str),
) -> (Summary, Duration, Result<(), SinkError>) {
    let started = Instant::now();
    let mut follower = match Follower::new(options, state_path, sink, tell) {
        Ok(follower) => follower,
        Err(error) => return (Summary::default(), started.elapsed(), Err(error)),
    };
    let outcome = follower.until(stop);
    (follower.summary, started.elapsed(), outcome)
}

struct Follower<'a> {
    options: &'a Options,
    state_path: Option<&'a Path>,
    sink: &'a dyn Sink,
    tell: &'a dyn Fn(&str),
    followed: Vec<Followed>,
    state: State,
    summary: Summary,
    pause: Duration,
    /// [`GRACE`].
    grace: Duration,
}

impl<'a> Follower<'a> {
    fn new(
        options: &'a Options,
        state_path: Option<&'a Path>,
        sink: &'a dyn Sink,
        tell: &'a dyn Fn(&str),
    ) -> Result<Self, SinkError> {
        let state = state_path.map_or_else(|| Ok(State::default()), read_state)?;
        let followed = options.files.iter().map(|path| Followed {
            // The state is of files, wherever the next process is started.
            path: std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            name: Arc::from(path.display().to_string()),
            opened: None,
            told: String::new(),
        });
        let followed = followed.collect();
        Ok(Self {
            options,
            state_path,
            sink,
            tell,
            followed,
            state,
            summary: Summary::default(),
            pause: PAUSE_FIRST,
            grace: GRACE,
        })
    }

    fn until(&mut self, stop: &AtomicBool) -> Result<(), SinkError> {
        loop {
            // What was written before it was asked for is sent.
            let last = stop.load(Ordering::Relaxed);
            match self.pass(last)? {
                Passed::Taken if last => return Ok(()),
                Passed::Taken => wait(PERIOD, stop),
                // The places are kept: the next process goes on there.
                Passed::Refused if last => return Ok(()),
                Passed::Refused => {
                    wait(self.pause, stop);
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Sends what all files have.
    fn pass(&mut self, last: bool) -> Result<Passed, SinkError> {
        let (mut passed, mut moved) = (Passed::Taken, false);
        let mut all = std::mem::take(&mut self.followed);
        for followed in &mut all {
            match self.file(followed, last, &mut moved) {
                Ok(Passed::Taken) => followed.told.clear(),
                Ok(Passed::Refused) => passed = Passed::Refused,
                Err(error) => self.say(followed, &format!("{error}; it is tried again")),
            }
        }
        self.followed = all;
        if moved && let Some(path) = self.state_path {
            write_state(path, &self.state)
                .map_err(|error| SinkError::Failed(format!("the state {}: {error}", path.display())))?;
        }
        if passed == Passed::Taken {
            self.pause = PAUSE_FIRST;
        }
        Ok(passed)
    }

    /// Sends what a file has, and the file that has its name by now.
    fn file(&mut self, followed: &mut Followed, last: bool, moved: &mut bool) -> io::Result<Passed> {
        loop {
            let (name, path) = (Arc::clone(&followed.name), followed.path.clone());
            let Some(opened) = followed.file(&self.state)? else { return Ok(Passed::Taken) };
            let gone = opened.renamed.is_some_and(|since| last || since.elapsed() >= self.grace);
            while let Some(text) = opened.lines(self.options.line_bytes_max, gone)? {
                let sent = self.send(&name, &text, opened);
                if self.state.get(&path) != Some(&opened.place) {
                    self.state.insert(path.clone(), opened.place.clone());
                    *moved = true;
                }
                if let Err(SinkError::Refused(why) | SinkError::Unreachable(why) | SinkError::Failed(why)) =
                    sent
                {
                    self.say(followed, &format!("not sent, and tried again: {why}"));
                    return Ok(Passed::Refused);
                }
            }
            if !gone {
                return Ok(Passed::Taken);
            }
            self.state.remove(&path);
            followed.opened = None;
        }
    }

    /// Sends lines; the place moves on with each request that was taken, and only those are counted.
    fn send(&mut self, name: &str, text: &[u8], opened: &mut Opened) -> Result<(), SinkError> {
        let failed = |error: io::Error| SinkError::Failed(error.to_string());
        let counters = Counters::default();
        let mut lines = Lines::new(text, self.options.line_bytes_max, self.options.batch_lines);
        let mut rest = text;
        while let Some(mut chunk) = lines.next_chunk().map_err(failed)? {
            let first = opened.place.line + 1;
            for line in &mut chunk.too_long {
                *line = *line - chunk.first_line + first;
            }
            chunk.first_line = first;
            let mut worker = Worker::new(self.options, self.sink, &counters);
            worker.chunk(name, &chunk)?;
            self.summary.merge(worker.summary);
            // A line that is passed over has its end, and is counted, later.
            let (mut bytes, mut ended) = (rest.len(), 0);
            for (at, end) in memchr::memchr_iter(b'\n', rest).take(chunk.lines).enumerate() {
                ended = at as u64 + 1;
                if at + 1 == chunk.lines {
                    bytes = end + 1;
                }
            }
            rest = rest.get(bytes..).unwrap_or_default();
            opened.taken(bytes as u64, ended).map_err(failed)?;
        }
        Ok(())
    }

    fn say(&self, followed: &mut Followed, text: &str) {
        if followed.told != text {
            (self.tell)(&format!("{}: {text}", followed.name));
            text.clone_into(&mut followed.told);
        }
    }
}

/// What became of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// The hub has all of it.
    Taken,
    /// Not all: it must be tried again.
    Refused,
}

fn wait(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::sync::{Mutex, PoisonError};

    use proptest::prelude::*;
    use threadline_model::jsonl::Mapping;

    use super::super::LineFormat;
    use super::super::sink::{Payload, Taken};
    use super::*;

    /// Takes requests, unless it is to fail; one that fails may have been kept all the same.
    #[derive(Default)]
    struct Hub {
        bodies: Mutex<BTreeMap<Vec<u8>, ()>>,
        failures: Mutex<Vec<bool>>,
    }

    impl Hub {
        fn fail(&self, kept: bool) {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }

        /// How often each line `<n>` has come; the same request twice is one.
        fn lines(&self) -> BTreeMap<u64, usize> {
            let mut found = BTreeMap::new();
            for body in self.bodies.lock().unwrap().keys() {
                for piece in body.split(|byte| *byte == b'<').skip(1) {
                    let digits = piece.split(|byte| *byte == b'>').next().unwrap();
                    let number = String::from_utf8_lossy(digits).parse().unwrap();
                    *found.entry(number).or_default() += 1;
                }
            }
            found
        }
    }

    impl Sink for Hub {
        fn send(&self, payload: &Payload) -> Result<Taken, SinkError> {
            let failure = self.failures.lock().unwrap().pop();
            if failure != Some(false) {
                self.bodies.lock().unwrap().insert(payload.body.clone(), ());
            }
            match failure {
                None => Ok(Taken { accepted: payload.records, ..Taken::default() }),
                Some(_) => Err(SinkError::Unreachable("the hub is away".to_owned())),
            }
        }
    }

    struct Case {
        folder: tempfile::TempDir,
        options: Options,
        hub: Hub,
        told: Mutex<Vec<String>>,
        next: u64,
        rotated: u32,
    }

    impl Case {
        fn new() -> Case {
            let folder = tempfile::tempdir().unwrap();
            let options = Options {
                files: vec![folder.path().join("a.log")],
                mapping: Arc::new(Mapping::default()),
                format: LineFormat::Auto,
                batch_lines: 3,
                line_bytes_max: 100,
                workers: 1,
            };
            Case { folder, options, hub: Hub::default(), told: Mutex::default(), next: 0, rotated: 0 }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("a.log")
        }

        fn state(&self) -> PathBuf {
            self.folder.path().join("state.json")
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn line(&mut self) -> String {
            self.next += 1;
            format!("{{\"msg\":\"<{}>\"}}\n", self.next)
        }

        fn lines(&mut self, count: usize) {
            for _ in 0..count {
                let line = self.line();
                self.append(&line);
            }
        }

        fn rotate(&mut self) {
            self.rotated += 1;
            let _ = std::fs::rename(self.path(), self.folder.path().join(format!("a.log.{}", self.rotated)));
        }

        /// Passes of one process; what it has counted.
        fn passes(&self, passes: usize) -> Summary {
            let tell = |text: &str| self.told.lock().unwrap().push(text.to_owned());
            let state = self.state();
            let mut follower = Follower::new(&self.options, Some(&state), &self.hub, &tell).unwrap();
            follower.grace = Duration::ZERO;
            for _ in 0..passes {
                follower.pass(false).unwrap();
            }
            follower.summary
        }

        #[track_caller]
        fn all_once(&self) {
            let want: BTreeMap<u64, usize> = (1..=self.next).map(|number| (number, 1)).collect();
            assert_eq!(self.hub.lines(), want, "{:?}", self.told.lock().unwrap());
        }
    }

    #[test]
    fn the_next_process_goes_on_where_the_last_was_also_in_a_file_that_was_renamed() {
        let mut case = Case::new();
        assert_eq!(case.passes(1), Summary::default());
        case.lines(5);
        assert_eq!(case.passes(1).logs, 5);
        assert_eq!(case.passes(1).logs, 0);
        case.lines(2);
        case.rotate();
        case.lines(4);
        assert_eq!(case.passes(2).logs, 6);
        case.all_once();
    }

    #[test]
    fn half_a_line_waits_for_its_end() {
        let mut case = Case::new();
        let line = case.line();
        let (front, back) = line.split_at(5);
        case.append(front);
        assert_eq!(case.passes(2).lines, 0);
        case.append(back);
        assert_eq!(case.passes(1).logs, 1);
        case.all_once();
    }

    #[test]
    fn what_was_not_answered_is_sent_again_as_it_was_and_counted_once() {
        let mut case = Case::new();
        case.lines(7);
        let tell = |text: &str| case.told.lock().unwrap().push(text.to_owned());
        let state = case.state();
        let mut follower = Follower::new(&case.options, Some(&state), &case.hub, &tell).unwrap();
        // Kept, and not answered; then lines come, which must not change what is sent.
        case.hub.fail(true);
        assert_eq!(follower.pass(false).unwrap(), Passed::Refused);
        case.append("{\"msg\":\"<8>\"}\n");
        case.hub.fail(false);
        assert_eq!(follower.pass(false).unwrap(), Passed::Refused);
        assert_eq!(follower.pass(false).unwrap(), Passed::Taken);
        assert_eq!(follower.summary.logs, 8);
        drop(follower);
        assert_eq!(case.told.lock().unwrap().len(), 1, "told once");
        case.next = 8;
        case.all_once();
    }

    #[test]
    fn a_truncated_file_is_new_and_a_line_that_is_too_long_is_passed_over() {
        let mut case = Case::new();
        case.lines(3);
        let tell = |_: &str| {};
        let state = case.state();
        let mut follower = Follower::new(&case.options, Some(&state), &case.hub, &tell).unwrap();
        follower.pass(false).unwrap();
        std::fs::write(case.path(), "{\"msg\":\"<4>\"}\n").unwrap();
        follower.pass(false).unwrap();
        std::fs::write(case.path(), "").unwrap();
        follower.pass(false).unwrap();
        case.append(&"x".repeat(150));
        follower.pass(false).unwrap();
        case.append(&format!("{}\n{{\"msg\":\"<5>\"}}\n", "y".repeat(300)));
        follower.pass(false).unwrap();
        assert_eq!((follower.summary.logs, follower.summary.rejected_total()), (5, 1));
        let place = follower.state.get(&case.path()).unwrap().clone();
        assert_eq!((place.line, place.offset), (2, std::fs::metadata(case.path()).unwrap().len()));
        drop(follower);
        case.next = 5;
        case.all_once();
    }

    #[test]
    fn a_state_that_is_none_is_not_overwritten() {
        let case = Case::new();
        std::fs::write(case.state(), "[]").unwrap();
        let (_, _, outcome) =
            follow(&case.options, Some(&case.state()), &case.hub, &AtomicBool::new(true), &|_| {});
        let Err(SinkError::Failed(reason)) = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("state.json") && reason.contains("no state"), "{reason}");
        assert_eq!(std::fs::read(case.state()).unwrap(), b"[]");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Lines(usize),
        Rotate,
        Truncate,
        Restart,
        Fail(bool),
        Pass,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_line_comes_once_whatever_happens_to_file_and_hub(
            steps in prop::collection::vec(prop_oneof![
                3 => (1_usize..8).prop_map(Step::Lines),
                1 => Just(Step::Rotate),
                1 => Just(Step::Truncate),
                1 => Just(Step::Restart),
                1 => any::<bool>().prop_map(Step::Fail),
                3 => Just(Step::Pass),
            ], 1..40),
        ) {
            let mut case = Case::new();
            let (options, state) = (case.options.clone(), case.state());
            let hub = std::mem::take(&mut case.hub);
            let tell = |_: &str| {};
            let start = || {
                let mut follower = Follower::new(&options, Some(&state), &hub, &tell).unwrap();
                follower.grace = Duration::ZERO;
                follower
            };
            let mut follower = start();
            // Until all is taken: a hub that fails fails once.
            let drain = |follower: &mut Follower<'_>| {
                for _ in 0..50 {
                    let _ = follower.pass(false).unwrap();
                }
            };
            for step in steps {
                match step {
                    Step::Lines(count) => case.lines(count),
                    // A file that was never seen under its name, or renamed twice between two looks, is not followed.
                    Step::Rotate => {
                        case.lines(1);
                        drain(&mut follower);
                        case.lines(2);
                        case.rotate();
                        case.lines(1);
                    }
                    Step::Truncate => {
                        drain(&mut follower);
                        if case.path().exists() {
                            std::fs::write(case.path(), "").unwrap();
                            drain(&mut follower);
                        }
                    }
                    // A process that is killed between a reply and its state is another matter.
                    Step::Restart => {
                        drain(&mut follower);
                        drop(follower);
                        follower = start();
                    }
                    Step::Fail(kept) => hub.fail(kept),
                    Step::Pass => {
                        let _ = follower.pass(false).unwrap();
                    }
                }
            }
            drain(&mut follower);
            let want: BTreeMap<u64, usize> = (1..=case.next).map(|number| (number, 1)).collect();
            prop_assert_eq!(hub.lines(), want);
        }
    }
}
