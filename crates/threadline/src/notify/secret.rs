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

/// What stands where a secret stood.
const HIDDEN: &str = "[hidden]";
/// Bytes of a part of a secret address that is looked for by itself.
const PART_BYTES_MIN: usize = 6;

/// Secrets that are looked for in what a target says, which may say again what it was told.
#[derive(Default)]
pub(crate) struct Hidden(Vec<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Hidden {
    /// A secret: its words, with the prefix that says what they are and without. What cannot be read was not sent either.
    pub(crate) fn add(&mut self, secret: &Secret) {
        let Ok(text) = secret.read() else { return };
        for word in text.split_whitespace() {
            self.text(word);
            for prefix in ["whsec_", "whsk_"] {
                word.strip_prefix(prefix).into_iter().for_each(|rest| self.text(rest));
            }
        }
        self.text(&text);
    }

    /// A secret address: the whole, what follows the host, and its parts.
    pub(crate) fn address(&mut self, secret: &Secret) {
        self.add(secret);
        let Ok(url) = secret.read() else { return };
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let Some((_, path)) = rest.split_once('/') else { return };
        self.text(path);
        self.text(&format!("/{path}"));
        for part in path.split(['/', '?', '&', '=']).filter(|part| part.len() >= PART_BYTES_MIN) {
            self.text(part);
        }
    }

    /// A text as it stands.
    pub(crate) fn text(&mut self, text: &str) {
        if !text.is_empty() && text != "/" && !self.0.iter().any(|known| known == text) {
            self.0.push(text.to_owned());
            self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
        }
    }

    /// A text in which none of them is.
    pub(crate) fn hide(&self, text: &str) -> String {
        // The longest first: others are parts of them.
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_says_has_no_secret_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join(format!("{}", text.len()));
            std::fs::write(&path, text).unwrap();
            Secret::File(path)
        };
        let mut hidden = Hidden::default();
        hidden.add(&file("whsec_b2xkb2xk\nwhsk_bmV3bmV3"));
        hidden.address(&file("https://hooks.example.com/services/T0001/B0002/s3cr3tpart?key=queryqueryquery"));
        for (said, want) in [
            ("no b2xkb2xk, no whsk_bmV3bmV3", "no [hidden], no [hidden]"),
            ("nothing is at /services/T0001/B0002/s3cr3tpart?key=queryqueryquery", "nothing is at [hidden]"),
            ("https://hooks.example.com/services/T0001/B0002/s3cr3tpart?key=queryqueryquery", "[hidden]"),
            ("no hook s3cr3tpart, key queryqueryquery", "no hook [hidden], key [hidden]"),
            ("fine at hooks.example.com", "fine at hooks.example.com"),
        ] {
            assert_eq!(hidden.hide(said), want);
        }
        assert_eq!(Hidden::default().hide("as it is"), "as it is");
    }

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
