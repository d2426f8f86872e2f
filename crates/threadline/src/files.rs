//! Folders of files that people write: contract, rules. All that is read has a cap.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Files of a folder at most.
const FILES_MAX: usize = 16_384;
/// How deep folders may lie in one another.
const DEPTH_MAX: usize = 8;
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Name and text of all `.yaml` and `.yml` files of a folder and the folders in it, by name.
///
/// # Errors
/// What cannot be read and why, or that there is no such file.
pub(crate) fn read_yaml(folder: &Path) -> Result<Vec<(String, Cow<'static, str>)>, String> {
    let paths = yaml_paths(folder)?;
    if paths.is_empty() {
        return Err(format!("{}: there is no .yaml file in this folder: name another", folder.display()));
    }
    paths.iter().map(|path| read_text(path)).collect()
}

/// The `.yaml` and `.yml` files of a folder and the folders in it, by name.
///
/// # Errors
/// Why they cannot be listed.
pub(crate) fn yaml_paths(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    find(folder, 0, &mut paths)?;
    paths.sort();
    Ok(paths)
}

/// Name and text of a file.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn read_text(path: &Path) -> Result<(String, Cow<'static, str>), String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let meta = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(wrong(format!("has more than {FILE_BYTES_MAX} bytes: split it")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Ok((path.display().to_string(), Cow::Owned(text)))
}

fn find(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    if depth > DEPTH_MAX {
        return Err(format!("{}: folders lie more than {DEPTH_MAX} deep: flatten them", folder.display()));
    }
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.is_dir() {
            find(&path, depth + 1, out)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            out.push(path);
        }
        if out.len() > FILES_MAX {
            return Err(format!("{}: more than {FILES_MAX} files", folder.display()));
        }
    }
    Ok(())
}
