//! API tokens: how they look, how they are kept, and how one is checked.
//!
//! Vocabulary:
//! - *token*: `tl_`, an id of 12 hex digits, `_`, and a *secret* of 256 random bits in base64url. Whoever has it may
//!   do what its roles say. It is shown once, when it is made;
//! - *entry*: what is kept of a token: its id, name, roles, times, and the SHA-256 of the secret;
//! - *uses file*: `tokens.used.json` beside it: when each token was used last. The hub writes it, at most once a minute;
//! - *token file*: `tokens.json` in the data folder; all entries. The command line writes it, also while a hub runs,
//!   which notices and reads it again.
//!
//! A plain SHA-256 is right here, where it would not be for passwords: a slow or salted hash protects secrets that can
//! be guessed, and 256 random bits cannot. The entry is found by the id, which is no secret; the hashes are compared
//! in constant time.
//!
//! This module does not know requests, and of time only what it is told.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use threadline_model::clock::Rng;
use threadline_model::id::hex;

use super::pattern::PATTERN_BYTES_MAX;
use super::roles::{Role, Roles};

/// Name of the token file.
pub const FILE_NAME: &str = "tokens.json";
/// Name of the uses file.
pub const USES_FILE_NAME: &str = "tokens.used.json";
/// Bytes of a token file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Entries of a token file.
pub const TOKENS_MAX: usize = 10_000;
/// Characters of a name.
pub const NAME_CHARS_MAX: usize = 64;
/// Services that a token may be bound to.
pub const SERVICES_MAX: usize = 64;
/// Entries whose token ended this long ago are forgotten when a token is made: 90 days, µs.
const FORGET_AFTER_US: i64 = 90 * 86_400_000_000;

const PREFIX: &str = "tl_";
const ID_BYTES: usize = 6;
const ID_CHARS: usize = 2 * ID_BYTES;
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// 12 hex digits; in records and lists it stands for the token.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is good for.
    pub roles: Roles,
    /// Names of services that it may send records of; any when empty. With `*`.
    pub services: Vec<String>,
    /// SHA-256 of the secret.
    digest: [u8; 32],
    /// When it was made, µs since the Unix epoch.
    pub created_us: i64,
    /// From when on it is not good any more.
    pub expires_us: Option<i64>,
    /// When it was revoked.
    pub revoked_us: Option<i64>,
}

/// Why a token is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It does not look like one.
    Malformed,
    /// There is none with this id.
    Unknown,
    /// The secret is another.
    WrongSecret,
    /// Its time is over.
    Expired(Arc<Token>),
    /// It was revoked.
    Revoked(Arc<Token>),
}

/// All entries of a token file.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    entries: HashMap<String, Arc<Token>>,
}

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Name.
    pub name: String,
    /// Roles.
    pub roles: Roles,
    /// Names of services; any when empty.
    pub services: Vec<String>,
    /// When it ends.
    pub expires_us: Option<i64>,
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Id and secret of a token, if it looks like one.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID_CHARS)?;
    let secret = rest.strip_prefix('_')?;
    let is_id = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_secret = secret.len() == SECRET_CHARS
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_id && is_secret).then_some((id, secret))
}

impl Tokens {
    /// Whether there is none, nor was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, the oldest first.
    pub fn list(&self) -> Vec<&Arc<Token>> {
        let mut all: Vec<_> = self.entries.values().collect();
        all.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
        all
    }

    /// The entry with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Token>> {
        self.entries.get(id)
    }

    /// The entry with this id, when its token is good now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn good(&self, id: &str, now_us: i64) -> Result<Arc<Token>, TokenFault> {
        let token = self.entries.get(id).ok_or(TokenFault::Unknown)?;
        if token.revoked_us.is_some() {
            return Err(TokenFault::Revoked(Arc::clone(token)));
        }
        if token.expires_us.is_some_and(|end| end <= now_us) {
            return Err(TokenFault::Expired(Arc::clone(token)));
        }
        Ok(Arc::clone(token))
    }

    /// The entry of a token that is good now.
    ///
    /// # Errors
    /// Why it is not. Whether it is expired or revoked is told only of a token whose secret is right.
    pub fn check(&self, text: &str, now_us: i64) -> Result<Arc<Token>, TokenFault> {
        let (id, secret) = parts(text).ok_or(TokenFault::Malformed)?;
        let entry = self.entries.get(id);
        // Compared in any case, so that the time taken does not tell which ids there are.
        let kept = entry.map_or([0; 32], |token| token.digest);
        let same = bool::from(kept.ct_eq(&digest(secret)));
        let token = entry.ok_or(TokenFault::Unknown)?;
        if !same {
            return Err(TokenFault::WrongSecret);
        }
        self.good(&token.id, now_us)
    }

    /// Makes a token. Its text, which is kept nowhere, and its entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn create(
        &mut self,
        new: NewToken,
        now_us: i64,
        rng: &dyn Rng,
    ) -> Result<(String, Arc<Token>), String> {
        check_new(&new, now_us)?;
        self.entries.retain(|_, token| {
            let end = token.revoked_us.or(token.expires_us).unwrap_or(i64::MAX);
            end.saturating_add(FORGET_AFTER_US) > now_us
        });
        if self.entries.len() >= TOKENS_MAX {
            return Err(format!("there are {TOKENS_MAX} tokens, no more are kept"));
        }
        if self.entries.values().any(|token| token.name == new.name && token.revoked_us.is_none()) {
            return Err(format!("there is a token `{}` already: revoke it, or take another name", new.name));
        }
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        rng.fill(&mut id);
        rng.fill(&mut secret);
        let id = hex(&id);
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let NewToken { name, roles, services, expires_us } = new;
        let digest = digest(&secret);
        let token = Token {
            id: id.clone(),
            name,
            roles,
            services,
            digest,
            created_us: now_us,
            expires_us,
            revoked_us: None,
        };
        let token = Arc::new(token);
        self.entries.insert(id.clone(), Arc::clone(&token));
        Ok((format!("{PREFIX}{id}_{secret}"), token))
    }

    /// Revokes a token by its id or its name.
    ///
    /// # Errors
    /// When there is none, or it was revoked before.
    pub fn revoke(&mut self, which: &str, now_us: i64) -> Result<Arc<Token>, String> {
        let named = self.entries.values().filter(|token| token.name == which);
        let found = self
            .entries
            .get(which)
            .or(named.max_by_key(|token| (token.revoked_us.is_none(), token.created_us)));
        let token =
            found.ok_or_else(|| format!("there is no token `{which}`; `threadline token list` shows them"))?;
        if token.revoked_us.is_some() {
            return Err(format!("the token `{which}` is revoked already"));
        }
        let revoked = Arc::new(Token { revoked_us: Some(now_us), ..Token::clone(token) });
        self.entries.insert(revoked.id.clone(), Arc::clone(&revoked));
        Ok(revoked)
    }
}

fn check_new(new: &NewToken, now_us: i64) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/' | ' ');
    let name = new.name.trim();
    if name.is_empty() || name != new.name || !name.chars().all(fits) || name.chars().count() > NAME_CHARS_MAX {
        return Err(format!(
            "a name has 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_`, `.`, `@`, `/` or spaces"
        ));
    }
    if new.roles.is_empty() {
        return Err("a token needs a role: ingest, read, operate or admin".to_owned());
    }
    if !new.services.is_empty() && !new.roles.iter().any(|role| role == Role::Ingest) {
        return Err("a token is bound to services only with the role ingest".to_owned());
    }
    let too_long = new.services.iter().any(|s| s.is_empty() || s.len() > PATTERN_BYTES_MAX);
    if too_long || new.services.len() > SERVICES_MAX {
        return Err(format!(
            "at most {SERVICES_MAX} names of services are taken, each of 1 to {PATTERN_BYTES_MAX} bytes"
        ));
    }
    if new.expires_us.is_some_and(|end| end <= now_us) {
        return Err("the token would have expired already".to_owned());
    }
    Ok(())
}

/// A token file as it is written.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    tokens: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    name: String,
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
    sha256: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
}

/// A uses file as it is written.
#[derive(Serialize, Deserialize)]
struct UsesDocument {
    version: u32,
    used: BTreeMap<String, String>,
}

/// A time as it is written.
pub fn write_time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |time| time.to_string())
}

fn read_time(text: &str) -> Result<i64, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error| format!("`{text}` is no time: {error}"))?;
    Ok(time.as_microsecond())
}

impl Entry {
    fn of(token: &Token) -> Entry {
        Entry {
            id: token.id.clone(),
            name: token.name.clone(),
            roles: token.roles.iter().map(|role| role.name().to_owned()).collect(),
            services: token.services.clone(),
            sha256: hex(&token.digest),
            created: write_time(token.created_us),
            expires: token.expires_us.map(write_time),
            revoked: token.revoked_us.map(write_time),
        }
    }

    fn token(self) -> Result<Token, String> {
        let role = |name: &String| Role::parse(name).ok_or_else(|| format!("there is no role `{name}`"));
        Ok(Token {
            roles: self.roles.iter().map(role).collect::<Result<Roles, _>>()?,
            digest: read_hex(&self.sha256).ok_or_else(|| format!("the sha256 of {} is none", self.id))?,
            created_us: read_time(&self.created)?,
            expires_us: self.expires.as_deref().map(read_time).transpose()?,
            revoked_us: self.revoked.as_deref().map(read_time).transpose()?,
            id: self.id,
            name: self.name,
            services: self.services,
        })
    }
}

fn read_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}

fn parse(text: &str) -> Result<Tokens, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.version != 1 {
        return Err(format!("it has version {}, this hub reads version 1", document.version));
    }
    if document.tokens.len() > TOKENS_MAX {
        return Err(format!("it has more than {TOKENS_MAX} tokens"));
    }
    let mut entries = HashMap::new();
    for entry in document.tokens {
        let token = entry.token()?;
        entries.insert(token.id.clone(), Arc::new(token));
    }
    Ok(Tokens { entries })
}

fn write(tokens: &Tokens) -> Result<String, String> {
    let tokens = tokens.list().into_iter().map(|token| Entry::of(token)).collect();
    let document = Document { version: 1, tokens };
    serde_json::to_string_pretty(&document).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// The token file of a data folder.
#[derive(Clone, Debug)]
pub struct TokenFile {
    folder: PathBuf,
}

impl TokenFile {
    /// That of this data folder.
    pub fn of(folder: &Path) -> TokenFile {
        TokenFile { folder: folder.to_owned() }
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// Reads it; no tokens when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(&self) -> Result<Tokens, String> {
        let path = self.path();
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tokens::default()),
            other => other.map_err(|error| wrong(error.to_string()))?,
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        let read = read.map_err(|error| wrong(error.to_string()))?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(wrong(format!("a token file has at most {FILE_BYTES_MAX} bytes")));
        }
        parse(&text).map_err(wrong)
    }

    /// Changes it: reads, changes, writes beside and renames; nobody else changes it meanwhile.
    ///
    /// # Errors
    /// When it cannot be read or written, and what `change` says.
    pub fn change<T>(&self, change: impl FnOnce(&mut Tokens) -> Result<T, String>) -> Result<T, String> {
        let failed = |error: io::Error| format!("{}: {error}", self.path().display());
        std::fs::create_dir_all(&self.folder).map_err(failed)?;
        let lock = private(&self.folder.join("tokens.lock")).map_err(failed)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        let mut tokens = self.read()?;
        let outcome = change(&mut tokens)?;
        self.replace(FILE_NAME, &write(&tokens)?).map_err(failed)?;
        drop(lock);
        Ok(outcome)
    }

    /// When tokens were used last, by id, µs: as the hub knew it when it wrote so last. Nothing where nobody wrote.
    ///
    /// # Errors
    /// When the uses file cannot be read or is none.
    pub fn read_uses(&self) -> Result<BTreeMap<String, i64>, String> {
        let path = self.folder.join(USES_FILE_NAME);
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            other => other.map_err(|error| wrong(error.to_string()))?,
        };
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        let document: UsesDocument = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        document.used.into_iter().map(|(id, time)| Ok((id, read_time(&time).map_err(wrong)?))).collect()
    }

    /// Writes the uses file.
    ///
    /// # Errors
    /// When it cannot be written; what was there stays.
    pub fn write_uses(&self, uses: BTreeMap<String, i64>) -> Result<(), String> {
        let failed = |error: String| format!("{}: {error}", self.folder.join(USES_FILE_NAME).display());
        let used = uses.into_iter().map(|(id, us)| (id, write_time(us))).collect();
        let text = serde_json::to_string_pretty(&UsesDocument { version: 1, used });
        let text = text.map_err(|error| failed(error.to_string()))? + "\n";
        self.replace(USES_FILE_NAME, &text).map_err(|error| failed(error.to_string()))
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let beside = self.folder.join(format!("{name}.new"));
        let mut file = private(&beside)?;
        // Whoever makes a token as root makes it for the hub, whose folder it is.
        let owner = std::fs::metadata(&self.folder)?;
        let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }
}

/// A file that only its owner may read.
fn private(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use threadline_store::Env;

    use super::*;

    fn new(name: &str, role: Role) -> NewToken {
        NewToken {
            name: name.to_owned(),
            roles: Roles::NONE.with(role),
            services: Vec::new(),
            expires_us: None,
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let rng = Env::local().rng;
        let mut tokens = Tokens::default();
        let until = NewToken { expires_us: Some(100), ..new("a", Role::Read) };
        let (a, entry) = tokens.create(until, 10, &*rng).unwrap();
        let (b, _) = tokens.create(new("b", Role::Ingest), 10, &*rng).unwrap();
        assert_eq!(a.len(), PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
        assert_eq!(tokens.check(&a, 99).unwrap(), entry);
        assert_eq!(tokens.check(&a, 100), Err(TokenFault::Expired(entry)));
        let swapped = format!("{}{}", &a[..16], &b[16..]);
        let unknown = format!("tl_000000000000{}", &b[15..]);
        for (text, want) in [
            (swapped.as_str(), TokenFault::WrongSecret),
            (unknown.as_str(), TokenFault::Unknown),
            (&b[..b.len() - 1], TokenFault::Malformed),
            ("", TokenFault::Malformed),
            ("tl_", TokenFault::Malformed),
            ("tl_é00000000000_", TokenFault::Malformed),
        ] {
            assert_eq!(tokens.check(text, 20), Err(want), "{text}");
        }
        tokens.revoke("b", 50).unwrap();
        assert!(matches!(tokens.check(&b, 60), Err(TokenFault::Revoked(_))));
        assert!(tokens.revoke("b", 60).unwrap_err().contains("already"));
        assert!(tokens.revoke("c", 60).unwrap_err().contains("no token"));
    }

    #[test]
    fn what_makes_no_token() {
        let rng = Env::local().rng;
        let mut tokens = Tokens::default();
        tokens.create(new("a", Role::Read), 10, &*rng).unwrap();
        let bound = NewToken { services: vec!["x".to_owned()], ..new("b", Role::Read) };
        let none = NewToken { roles: Roles::NONE, ..new("b", Role::Read) };
        let late = NewToken { expires_us: Some(10), ..new("b", Role::Read) };
        for (new, want) in [
            (new("a", Role::Read), "already"),
            (new("", Role::Read), "a name has"),
            (new("a\nb", Role::Read), "a name has"),
            (new(" a", Role::Read), "a name has"),
            (bound, "only with the role ingest"),
            (none, "needs a role"),
            (late, "expired"),
        ] {
            let said = tokens.create(new, 10, &*rng).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
    }

    #[test]
    fn the_file_keeps_entries_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile::of(&folder.path().join("data"));
        assert!(file.read().unwrap().is_empty());
        let rng = Env::local().rng;
        let bound = NewToken {
            services: vec!["shop-*".to_owned()],
            expires_us: Some(2_000_000_000_000_000),
            ..new("a b", Role::Ingest)
        };
        let (text, token) = file.change(|tokens| tokens.create(bound, 1_790_000_000_123_456, &*rng)).unwrap();
        let kept = std::fs::read_to_string(file.path()).unwrap();
        assert!(!kept.contains(parts(&text).unwrap().1), "{kept}");
        assert_eq!(file.read().unwrap().check(&text, 1).unwrap(), token);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        file.change(|tokens| tokens.revoke(&token.id, 5)).unwrap();
        assert_eq!(file.read().unwrap().list()[0].revoked_us, Some(5));
        let uses = BTreeMap::from([(token.id.clone(), 1_790_000_000_123_456)]);
        assert!(file.read_uses().unwrap().is_empty());
        file.write_uses(uses.clone()).unwrap();
        assert_eq!(file.read_uses().unwrap(), uses);
        // A change that fails changes nothing.
        assert!(file.change(|_| Err::<(), _>("no".to_owned())).is_err());
        assert_eq!(file.read().unwrap().list().len(), 1);
        for broken in ["", "{", "{\"version\":2,\"tokens\":[]}", "[]"] {
            std::fs::write(file.path(), broken).unwrap();
            assert!(file.read().unwrap_err().contains("tokens.json"), "{broken}");
        }
    }
}
