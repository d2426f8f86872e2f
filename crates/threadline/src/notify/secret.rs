//! Secrets of receivers: in a file or a variable, never in the settings themselves, never printed.

use std::fmt;
use std::path::PathBuf;

/// Bytes of a file with a secret at most.
const BYTES_MAX: u64 = 64 << 10;

/// Where a secret is. It is read whenever it is used, so that a file can be replaced while the hub runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// In a file; blanks at its ends are not part of it.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::File(path) => write!(f, "file {}", path.display()),
            Secret::Env(name) => write!(f, "variable {name}"),
        }
    }
}

impl Secret {
    /// The secret.
    ///
    /// # Errors
    /// It is not there, empty or too large; what is said has nothing of it.
    pub(crate) fn read(&self) -> Result<String, String> {
        let text = match self {
            Secret::Env(name) => std::env::var(name)
                .map_err(|_| format!("the variable {name} is not set: start the hub with it"))?,
            Secret::File(path) => {
                let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
                let bytes = std::fs::metadata(path).map_err(wrong)?.len();
                if bytes > BYTES_MAX {
                    return Err(format!(
                        "{} has {bytes} bytes: a secret has {BYTES_MAX} at most",
                        path.display()
                    ));
                }
                std::fs::read_to_string(path).map_err(wrong)?
            }
        };
        match text.trim() {
            "" => Err(format!("the {self:?} is empty: put the secret there")),
            secret => Ok(secret.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_when_used_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::File(path.clone());
        assert!(secret.read().unwrap_err().contains("cannot read"));
        for value in ["s3cret-1", "s3cret-2"] {
            std::fs::write(&path, format!("{value}\n")).unwrap();
            assert_eq!(secret.read().unwrap(), value);
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
        std::fs::write(&path, " \n").unwrap();
        assert!(secret.read().unwrap_err().contains("is empty"));
        std::fs::write(&path, vec![b'x'; 100_000]).unwrap();
        assert!(secret.read().unwrap_err().contains("100000 bytes"));
        let missing = Secret::Env("THREADLINE_TEST_NO_SUCH_VARIABLE".to_owned());
        assert!(missing.read().unwrap_err().contains("is not set"));
    }
}
