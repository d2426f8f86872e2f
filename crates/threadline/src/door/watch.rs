//! Notices that files of the door have changed, and has them read again: tokens, certificates, authorities.
//!
//! Files are looked at, not subscribed to: a look four times a second costs nothing, works on every file system, and sees a
//! secret that is mounted anew by swapping a link.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Door;
use super::tls::Tls;
use super::tokens::TokenFile;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(250);
/// How often it is written down when tokens were used last.
const USES_EVERY: u32 = 240;

/// Looks at the files of the door again and again, for as long as the runtime that it runs on.
pub(crate) async fn keep_fresh(door: Arc<Door>, file: TokenFile, tls: Option<Arc<Tls>>) {
    let mut tokens = Watched::new([file.path()]);
    let mut certificates = Watched::new(tls.iter().flat_map(|tls| tls.paths()));
    for look in 0_u32.. {
        if tokens.changed() {
            let door = Arc::clone(&door);
            aside(move || {
                if let Err(reason) = door.reload_tokens() {
                    tracing::error!("the tokens stay as they are: {reason}");
                }
            })
            .await;
        }
        if look % USES_EVERY == USES_EVERY - 1 {
            let door = Arc::clone(&door);
            aside(move || door.keep_uses()).await;
        }
        if let Some(tls) = &tls
            && certificates.changed()
        {
            match tls.reload() {
                Ok(()) => tracing::info!("certificates read"),
                // A pair that is being replaced does not fit for a moment: the next look sees the rest.
                Err(reason) => tracing::error!("the certificates stay as they are: {reason}"),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Does what waits for a disk where nobody else waits for it.
async fn aside(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("looking at the door's files ended abnormally");
    }
}

/// What tells one state of a file from another; `None` when there is no file.
type Stamp = Option<(u64, i64, i64, u64)>;

/// A group of files that are read together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    paths: Vec<(PathBuf, Stamp)>,
}

impl Watched {
    /// These files, not looked at yet: those that are there count as changed at the first look, so that nothing is
    /// missed that happened since somebody read them.
    fn new(paths: impl IntoIterator<Item = PathBuf>) -> Watched {
        Watched { paths: paths.into_iter().map(|path| (path, None)).collect() }
    }

    /// These files as they are now.
    pub(crate) fn look(paths: impl IntoIterator<Item = PathBuf>) -> Watched {
        let mut watched = Watched::new(paths);
        watched.changed();
        watched
    }

    /// Whether one is another than at the last look.
    fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in &mut self.paths {
            let now = stamp(path);
            changed |= now != *known;
            *known = now;
        }
        changed
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_goes_or_is_replaced_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.changed());
        for step in ["a", "bb"] {
            std::fs::write(&path, step).unwrap();
            assert!(watched.changed() && !watched.changed(), "{step}");
        }
        let other = folder.path().join("g");
        std::fs::write(&other, "cc").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert!(watched.changed() && !watched.changed());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.changed() && !watched.changed());
    }
}
