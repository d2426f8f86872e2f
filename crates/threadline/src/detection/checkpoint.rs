//! The file that keeps what detection remembers: `detect/checkpoint` in the data folder.
//!
//! Layout, little-endian: `TLDC`, version (u16), next sequence number (i64), the sequence number up to which nothing is
//! told (i64), length of the engine's part (u64), that part, length of the baselines' part (u64), that part, crc32c of
//! all before (u32). Written beside, synced, renamed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"TLDC";
const VERSION: u16 = 2;
/// Bytes of the file at most.
const BYTES_MAX: u64 = 8 << 30;

/// What is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Where reading goes on.
    pub(super) next_seq: i64,
    /// Up to this sequence number is learnt, and nothing told.
    pub(super) quiet_until: i64,
    /// Empty: nothing is remembered yet.
    pub(super) engine: Vec<u8>,
    pub(super) baselines: Vec<u8>,
}

fn path(data: &Path) -> PathBuf {
    data.join("detect").join("checkpoint")
}

/// Writes it.
///
/// # Errors
/// The disk failed; the file before it is still there.
pub(super) fn write(data: &Path, kept: &Kept) -> io::Result<()> {
    let path = path(data);
    let folder = path.parent().unwrap_or(data);
    std::fs::create_dir_all(folder)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(kept.next_seq.to_le_bytes());
    bytes.extend(kept.quiet_until.to_le_bytes());
    for part in [&kept.engine, &kept.baselines] {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    File::open(folder)?.sync_all()
}

/// Reads it; `None` when there is none.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn read(data: &Path) -> Result<Option<Kept>, String> {
    let path = path(data);
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    match std::fs::metadata(&path) {
        Ok(meta) if meta.len() > BYTES_MAX => return Err(wrong(format!("has more than {BYTES_MAX} bytes"))),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    }
    let bytes = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
    parse(&bytes).map(Some).ok_or_else(|| wrong("is damaged, or of another version".to_owned()))
}

/// Puts one that cannot be used aside, where the next does not overwrite it.
pub(super) fn put_aside(data: &Path) {
    let path = path(data);
    if let Err(error) = std::fs::rename(&path, path.with_extension("unreadable")) {
        tracing::warn!("{} stays where it is: {error}", path.display());
    }
}

fn parse(bytes: &[u8]) -> Option<Kept> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at_checked(len)?;
        rest = left;
        Some(taken)
    };
    if u16::from_le_bytes(*take(2)?.first_chunk()?) != VERSION {
        return None;
    }
    let next_seq = i64::from_le_bytes(*take(8)?.first_chunk()?);
    let quiet_until = i64::from_le_bytes(*take(8)?.first_chunk()?);
    let mut part = || {
        let len = u64::from_le_bytes(*take(8)?.first_chunk()?);
        take(usize::try_from(len).ok()?).map(<[u8]>::to_vec)
    };
    let (engine, baselines) = (part()?, part()?);
    rest.is_empty().then_some(Kept { next_seq, quiet_until, engine, baselines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Ok(None));
        for kept in [
            Kept::default(),
            Kept { next_seq: 77, quiet_until: 5, engine: vec![1, 2, 3], baselines: vec![9; 1000] },
        ] {
            write(folder.path(), &kept).unwrap();
            assert_eq!(read(folder.path()), Ok(Some(kept)));
        }
        let bytes = std::fs::read(path(folder.path())).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), None, "{cut}");
            let mut changed = bytes.clone();
            changed[cut] ^= 1;
            assert_eq!(parse(&changed), None, "{cut}");
        }
    }
}
