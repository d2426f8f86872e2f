//! Folders of files that people write: contract, rules. All that is read has a cap.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Files of a folder at most.
const FILES_MAX: usize = 16_384;
/// How deep folders may lie in one another.
const DEPTH_MAX: usize = 8;
/// Bytes of a file at most.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all files of a folder at most.
const BYTES_MAX: usize = 256 << 20;

/// Name and text of all `.yaml` and `.yml` files of a folder and the folders in it, by name.
///
/// # Errors
/// What cannot be read and why, or that there is no such file.
pub(crate) fn read_yaml(folder: &Path) -> Result<Vec<(String, Cow<'static, str>)>, String> {
    let paths = yaml_paths(folder)?;
    if paths.is_empty() {
        return Err(format!("{}: there is no .yaml file in this folder: name another", folder.display()));
    }
    let mut bytes = 0;
    let read = paths.iter().map(|path| {
        let file = read_text(path)?;
        bytes += file.1.len();
        if bytes > BYTES_MAX {
            return Err(format!(
                "{}: its files have more than {BYTES_MAX} bytes: remove some",
                folder.display()
            ));
        }
        Ok(file)
    });
    read.collect()
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
        let entry = entry.map_err(wrong)?;
        // A folder that is mounted and swapped as a whole keeps its files in hidden ones, and links to them.
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_swapped_by_a_link_has_each_file_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("..2026_01")).unwrap();
        std::fs::write(at("..2026_01").join("a.yml"), "a: 1").unwrap();
        std::os::unix::fs::symlink("..2026_01", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yml", at("a.yml")).unwrap();
        std::fs::create_dir(at("own")).unwrap();
        std::fs::write(at("own/b.yaml"), "b: 1").unwrap();
        std::fs::write(at("own/c.txt"), "c: 1").unwrap();
        assert_eq!(yaml_paths(folder.path()).unwrap(), [at("a.yml"), at("own/b.yaml")]);
        assert_eq!(read_yaml(folder.path()).unwrap()[0].1, "a: 1");
        assert!(read_yaml(&at("own/b.yaml")).is_err(), "no folder");
    }
}
