//! An append-only Merkle log of what happened to sealed files (docs/formats.md, "Merkle log"): C2SP tlog-tiles on disk,
//! a signed checkpoint on top.
//!
//! Vocabulary:
//! - *leaf*: one line of JSON, what one commit of a table log did to one file (or to the inputs of one compaction);
//! - *tile*: up to 256 neighbouring hashes of one level; a *partial* tile has fewer and is replaced as the tree grows;
//! - *bundle*: the data of up to 256 neighbouring leaves;
//! - *checkpoint*: size and root of the tree as a signed note. It is replaced last: whatever lies beyond its size does
//!   not exist.
//!
//! It does not know what a leaf says; the table log makes leaves.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde_json::Value;
use sha2::{Digest, Sha256};
use threadline_model::clock::Rng;
use threadline_model::id::hex;
use threadline_model::schema::Table;

use crate::StoreError;
use crate::sealed::objects::Objects;
use crate::sha::Messages;

/// A SHA-256 hash.
pub(crate) type Hash = [u8; 32];

/// The byte before a leaf's data when it is hashed (RFC 6962 section 2.1).
pub(crate) const LEAF: u8 = 0;
/// The same for an inner node.
const NODE: u8 = 1;

/// Hash of a leaf (RFC 6962 section 2.1).
pub(crate) fn leaf_hash(data: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([LEAF]);
    hash.update(data);
    hash.finalize().into()
}

/// Hash of an inner node (RFC 6962 section 2.1).
pub(crate) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [NODE; 65];
    node[1..33].copy_from_slice(left);
    node[33..].copy_from_slice(right);
    Sha256::digest(node).into()
}

/// Root of a tree whose leaves come one by one, in logarithmic memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeHasher {
    /// Roots of full subtrees, larger ones first, with their level.
    full: Vec<(u32, Hash)>,
    size: u64,
}

impl TreeHasher {
    /// Adds the hash of a leaf.
    pub(crate) fn push(&mut self, leaf: Hash) {
        self.push_subtree(0, leaf);
    }

    /// Adds the hashes of many leaves, and takes them. Faster than one by one: the nodes of a level are hashed together.
    pub(crate) fn push_all(&mut self, leaves: &mut Vec<Hash>) {
        self.size += leaves.len() as u64;
        let mut nodes = Messages::default();
        let mut odd = Vec::new();
        let mut level = 0;
        while !leaves.is_empty() {
            if let Some((_, left)) = self.full.pop_if(|(top, _)| *top == level) {
                leaves.insert(0, left);
            }
            let (pairs, rest) = leaves.as_chunks::<2>();
            odd.extend(rest.iter().map(|&rest| (level, rest)));
            nodes.clear();
            for [left, right] in pairs {
                nodes.push(|out| {
                    out.push(NODE);
                    out.extend_from_slice(left);
                    out.extend_from_slice(right);
                });
            }
            leaves.clear();
            nodes.hash(leaves);
            level += 1;
        }
        self.full.extend(odd.into_iter().rev());
    }

    /// Adds the root of a full subtree of `2^level` leaves. Subtrees must come in order of size, large ones first.
    fn push_subtree(&mut self, level: u32, hash: Hash) {
        self.size += 1 << level;
        self.merge(level, hash);
    }

    fn merge(&mut self, mut level: u32, mut hash: Hash) {
        while let Some(&(top, left)) = self.full.last().filter(|(top, _)| *top == level) {
            self.full.pop();
            hash = node_hash(&left, &hash);
            level = top + 1;
        }
        self.full.push((level, hash));
    }

    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The root; of the empty tree, the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut rest = self.full.iter().rev().map(|(_, hash)| *hash);
        match rest.next() {
            Some(last) => rest.fold(last, |right, left| node_hash(&left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

/// Hashes of a full tile, and leaves of a full bundle.
const TILE: usize = 256;
/// Bytes of a leaf at most (tlog-tiles: a 16-bit length).
const LEAF_BYTES_MAX: usize = u16::MAX as usize;
/// Levels of tiles: 256 to the eighth leaves are enough.
const LEVELS: u32 = 8;

const CHECKPOINT: &str = "merkle/checkpoint";
const PRIVATE_KEY: &str = "keys/merkle.key";
const PUBLIC_KEY: &str = "keys/merkle.pub";
/// Bytes of a small text file at most.
const TEXT_BYTES_MAX: u64 = 16 << 10;
/// Bytes of a bundle at most.
const BUNDLE_BYTES_MAX: u64 = (TILE * (LEAF_BYTES_MAX + 2)) as u64;

/// A leaf before it enters the log: members by name, to be written as JSON with sorted keys.
pub(crate) type Leaf = BTreeMap<&'static str, Value>;

/// Last commit of each table's log whose leaves are in the Merkle log; -1 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covers {
    logs: i64,
    spans: i64,
}

impl Covers {
    /// No commit at all.
    pub(crate) const NONE: Covers = Covers { logs: -1, spans: -1 };

    /// The last commit of a table.
    pub(crate) fn get(&self, table: Table) -> i64 {
        match table {
            Table::Logs => self.logs,
            Table::Spans => self.spans,
        }
    }

    /// Sets the last commit of a table.
    pub(crate) fn set(&mut self, table: Table, version: i64) {
        match table {
            Table::Logs => self.logs = version,
            Table::Spans => self.spans = version,
        }
    }
}

/// The bytes of a leaf.
///
/// # Errors
/// When it is larger than a bundle can hold.
pub(crate) fn encode_leaf(leaf: &Leaf, covers: Covers) -> Result<Vec<u8>, StoreError> {
    let covers = BTreeMap::from([("logs", covers.logs), ("spans", covers.spans)]);
    let mut leaf = leaf.clone();
    leaf.insert("covers", serde_json::json!(covers));
    let bytes = serde_json::to_vec(&leaf)
        .map_err(|error| StoreError::corrupt(format!("a leaf of the Merkle log cannot be written: {error}")))?;
    if bytes.len() > LEAF_BYTES_MAX {
        let detail =
            format!("a leaf of the Merkle log has {} bytes, at most {LEAF_BYTES_MAX} fit", bytes.len());
        return Err(StoreError::Invalid { detail });
    }
    Ok(bytes)
}

/// What a leaf says it covers.
fn covers_of(leaf: &[u8]) -> Option<Covers> {
    let leaf: Value = serde_json::from_slice(leaf).ok()?;
    let covers = leaf.get("covers")?;
    Some(Covers { logs: covers.get("logs")?.as_i64()?, spans: covers.get("spans")?.as_i64()? })
}

/// Signs and verifies checkpoints under a name.
struct Signatures {
    name: String,
    signing: Option<SigningKey>,
    verifying: VerifyingKey,
}

impl Signatures {
    /// Loads the key of the data folder; makes one when there is none and `rng` is given.
    fn open(objects: &Objects, name: String, rng: Option<&dyn Rng>) -> Result<Signatures, StoreError> {
        let context = |error| StoreError::io("reading the Merkle log's key", error);
        if let Some(rng) = rng
            && objects.find(PRIVATE_KEY, TEXT_BYTES_MAX).map_err(context)?.is_none()
        {
            if objects.find(CHECKPOINT, TEXT_BYTES_MAX).map_err(context)?.is_some() {
                let detail = format!("{PRIVATE_KEY} is missing, but the Merkle log is signed: restore the key");
                return Err(StoreError::Invalid { detail });
            }
            let mut seed = [0; 32];
            rng.fill(&mut seed);
            let text = private_key_text(&name, &SigningKey::from_bytes(&seed));
            objects.put_if_absent(PRIVATE_KEY, text.as_bytes()).map_err(context)?;
        }
        let private = objects.find(PRIVATE_KEY, TEXT_BYTES_MAX).map_err(context)?;
        let signing = private.as_deref().map(parse_private_key).transpose()?;
        let verifying = match &signing {
            Some(key) => key.verifying_key(),
            None => parse_public_key(&objects.get(PUBLIC_KEY, TEXT_BYTES_MAX).map_err(context)?)?,
        };
        let signatures = Signatures { name, signing, verifying };
        if rng.is_some() {
            let text = signatures.public_key_text();
            if objects.find(PUBLIC_KEY, TEXT_BYTES_MAX).map_err(context)?.as_deref() != Some(text.as_bytes()) {
                objects.replace(PUBLIC_KEY, text.as_bytes()).map_err(context)?;
            }
        }
        Ok(signatures)
    }

    fn key_hash(&self) -> [u8; 4] {
        key_hash(&self.name, &self.verifying)
    }

    fn public_key_text(&self) -> String {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.verifying.as_bytes());
        format!("{}+{}+{}\n", self.name, hex(&self.key_hash()), STANDARD.encode(key))
    }

    fn note(&self, size: u64, root: &Hash) -> Result<String, StoreError> {
        let text = format!("{}\n{size}\n{}\n", self.name, STANDARD.encode(root));
        let Some(signing) = &self.signing else {
            return Err(StoreError::Invalid { detail: format!("{PRIVATE_KEY} is missing") });
        };
        let mut signature = self.key_hash().to_vec();
        signature.extend_from_slice(&signing.sign(text.as_bytes()).to_bytes());
        Ok(format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature)))
    }

    /// Size and root of a note whose signature is good.
    fn open_note(&self, note: &[u8]) -> Option<(u64, Hash)> {
        let note = std::str::from_utf8(note).ok()?;
        let (text, signatures) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let mut lines = text.lines();
        if lines.next()? != self.name {
            return None;
        }
        let size = lines.next()?.parse().ok()?;
        let root: Hash = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let prefix = format!("\u{2014} {} ", self.name);
        // One line, ended as written: a changed byte anywhere in the note must show.
        let signature = signatures.strip_prefix(&prefix)?.strip_suffix('\n')?;
        let signature = STANDARD.decode(signature).ok()?;
        let (hash, signature) = signature.split_first_chunk::<4>()?;
        if *hash != self.key_hash() || lines.next().is_some() {
            return None;
        }
        let signature = Signature::from_slice(signature).ok()?;
        self.verifying.verify(text.as_bytes(), &signature).ok()?;
        Some((size, root))
    }
}

/// Signature type of Ed25519 in signed notes.
const ED25519: u8 = 1;

fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([b'\n', ED25519]);
    hash.update(key.as_bytes());
    let hash: Hash = hash.finalize().into();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn private_key_text(name: &str, key: &SigningKey) -> String {
    let mut bytes = vec![ED25519];
    bytes.extend_from_slice(key.as_bytes());
    let hash = hex(&key_hash(name, &key.verifying_key()));
    format!("PRIVATE+KEY+{name}+{hash}+{}\n", STANDARD.encode(bytes))
}

/// The 32 bytes after the type of the last `+`-separated part. Base64 itself has `+`: split from the left.
fn key_bytes(text: &[u8], parts: usize) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let bytes = STANDARD.decode(text.splitn(parts, '+').last()?).ok()?;
    let (kind, key) = bytes.split_first()?;
    (*kind == ED25519).then(|| key.try_into().ok()).flatten()
}

fn parse_private_key(text: &[u8]) -> Result<SigningKey, StoreError> {
    let key = key_bytes(text, 5).map(|bytes| SigningKey::from_bytes(&bytes));
    key.ok_or_else(|| StoreError::corrupt(format!("{PRIVATE_KEY} is damaged: restore it")))
}

fn parse_public_key(text: &[u8]) -> Result<VerifyingKey, StoreError> {
    let key = key_bytes(text, 3).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    key.ok_or_else(|| StoreError::corrupt(format!("{PUBLIC_KEY} is damaged: restore it")))
}

/// Path of a tile or bundle: `level` is a number or `entries`; `width` of a partial one.
fn tile_key(level: &str, index: u64, width: usize) -> String {
    let mut number = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        number = format!("x{:03}/{number}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < TILE { format!(".p/{width}") } else { String::new() };
    format!("merkle/tile/{level}/{number}{partial}")
}

/// Name of the level of bundles.
const ENTRIES: &str = "entries";

/// Right edge of one level: what is not a full tile yet.
#[derive(Clone, Debug, Default)]
struct Edge {
    /// Tile number.
    index: u64,
    /// Hashes in it, one after the other.
    hashes: Vec<u8>,
}

impl Edge {
    fn width(&self) -> usize {
        self.hashes.len() / 32
    }
}

/// The Merkle log of a data folder.
pub(crate) struct MerkleLog {
    objects: Objects,
    signatures: Signatures,
    tree: TreeHasher,
    edges: Vec<Edge>,
    bundle: Vec<u8>,
    covers: Covers,
    /// An append failed half-way: what is on disk decides.
    stale: bool,
}

impl MerkleLog {
    /// Opens the log of a node; creates it when `rng` is given and there is none. `used` says whether table logs exist
    /// already: then a missing checkpoint is a loss, not a beginning.
    ///
    /// # Errors
    /// When the disk fails, or when checkpoint, tiles and key do not fit each other.
    pub(crate) fn open(
        objects: &Objects,
        node: &str,
        rng: Option<&dyn Rng>,
        used: bool,
    ) -> Result<MerkleLog, StoreError> {
        let context = |error| StoreError::io("reading the Merkle log", error);
        let found = objects.find(CHECKPOINT, TEXT_BYTES_MAX).map_err(context)?;
        if found.is_none() && used {
            return Err(StoreError::corrupt(format!(
                "{CHECKPOINT} is missing although tables exist: restore the folder merkle/"
            )));
        }
        let signatures = Signatures::open(objects, format!("threadline/{node}"), rng)?;
        let mut log = MerkleLog {
            objects: objects.clone(),
            signatures,
            tree: TreeHasher::default(),
            edges: vec![Edge::default()],
            bundle: Vec::new(),
            covers: Covers::NONE,
            stale: false,
        };
        match found {
            Some(note) => log.load(&note)?,
            None => log.write_checkpoint()?,
        }
        Ok(log)
    }

    fn load(&mut self, note: &[u8]) -> Result<(), StoreError> {
        let bad = |what: &str| StoreError::corrupt(format!("the Merkle log is damaged: {what}"));
        let (size, root) =
            self.signatures.open_note(note).ok_or_else(|| bad("the checkpoint's signature does not fit"))?;
        self.tree = TreeHasher::default();
        self.edges.clear();
        self.bundle.clear();
        self.covers = Covers::NONE;
        for level in 0..LEVELS {
            let hashes = size >> (8 * level);
            if hashes == 0 && level > 0 {
                break;
            }
            let (index, width) = (hashes / TILE as u64, (hashes % TILE as u64) as usize);
            let hashes = if width > 0 { self.tile(level, index, width)? } else { Vec::new() };
            self.edges.push(Edge { index, hashes });
        }
        for (level, edge) in self.edges.iter().enumerate().rev() {
            for hash in edge.hashes.chunks_exact(32) {
                let hash = hash.try_into().map_err(|_| bad("a tile is cut"))?;
                self.tree.push_subtree(8 * level as u32, hash);
            }
        }
        if self.tree.size() != size || self.tree.root() != root {
            return Err(bad("tiles and checkpoint have different roots"));
        }
        if size > 0 {
            let last = (size - 1) / TILE as u64;
            let bundle = self.bundle(last, size)?;
            let leaves = split_bundle(&bundle).ok_or_else(|| bad("a bundle cannot be split"))?;
            let leaf = leaves.last().ok_or_else(|| bad("a bundle is empty"))?;
            self.covers = covers_of(leaf).ok_or_else(|| bad("a leaf cannot be read"))?;
            if size % TILE as u64 != 0 {
                self.bundle = bundle;
            }
        }
        Ok(())
    }

    fn tile(&self, level: u32, index: u64, width: usize) -> Result<Vec<u8>, StoreError> {
        let key = tile_key(&level.to_string(), index, width);
        let bytes = self
            .objects
            .get(&key, (TILE * 32) as u64)
            .map_err(|error| StoreError::io(format!("reading {key}"), error))?;
        if bytes.len() != width * 32 {
            return Err(StoreError::corrupt(format!("{key} has {} bytes, not {}", bytes.len(), width * 32)));
        }
        Ok(bytes)
    }

    /// The bundle of this number in a tree of this size.
    fn bundle(&self, index: u64, size: u64) -> Result<Vec<u8>, StoreError> {
        let width = usize::try_from(size - index * TILE as u64).unwrap_or(TILE).min(TILE);
        let key = tile_key(ENTRIES, index, width);
        self.objects
            .get(&key, BUNDLE_BYTES_MAX)
            .map_err(|error| StoreError::io(format!("reading {key}"), error))
    }

    /// Leaves.
    pub(crate) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Commits whose leaves are in.
    pub(crate) fn covers(&self) -> Covers {
        self.covers
    }

    /// Appends the leaves of one commit, all or none. After a failure call [`MerkleLog::recover`] first.
    pub(crate) fn append(&mut self, table: Table, version: i64, leaves: &[Leaf]) -> Result<(), StoreError> {
        let mut covers = self.covers;
        covers.set(table, version);
        let result = self.append_leaves(leaves, covers);
        match result {
            Ok(()) => self.covers = covers,
            Err(_) => self.stale = true,
        }
        result
    }

    /// Goes back to what is on disk after a failed append: it may have taken place or not.
    pub(crate) fn recover(&mut self) -> Result<(), StoreError> {
        if !self.stale {
            return Ok(());
        }
        let note = self
            .objects
            .get(CHECKPOINT, TEXT_BYTES_MAX)
            .map_err(|error| StoreError::io("reading the Merkle log", error))?;
        self.load(&note)?;
        self.stale = false;
        Ok(())
    }

    fn append_leaves(&mut self, leaves: &[Leaf], covers: Covers) -> Result<(), StoreError> {
        let context = |error| StoreError::io("writing the Merkle log", error);
        let before = self.partial_keys();
        for leaf in leaves {
            let bytes = encode_leaf(leaf, covers)?;
            self.bundle.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            self.bundle.extend_from_slice(&bytes);
            let hash = leaf_hash(&bytes);
            self.tree.push(hash);
            let index = (self.tree.size() - 1) / TILE as u64;
            if self.tree.size().is_multiple_of(TILE as u64) {
                self.objects.put(&tile_key(ENTRIES, index, TILE), &self.bundle).map_err(context)?;
                self.bundle.clear();
            }
            self.push_edge(0, hash)?;
        }
        let after = self.partial_keys();
        for (key, level) in after.iter().filter(|(key, _)| !before.iter().any(|(old, _)| old == key)) {
            let bytes = match level {
                Some(level) => self.edges.get(*level).map_or(&[][..], |edge| &edge.hashes),
                None => &self.bundle,
            };
            self.objects.put(key, bytes).map_err(context)?;
        }
        self.write_checkpoint()?;
        for (key, _) in before.iter().filter(|(key, _)| !after.iter().any(|(new, _)| new == key)) {
            // Best effort: a partial tile that stays is no longer read.
            let _ = self.objects.delete(key);
        }
        Ok(())
    }

    fn push_edge(&mut self, level: usize, hash: Hash) -> Result<(), StoreError> {
        if self.edges.len() <= level {
            self.edges.push(Edge::default());
        }
        let Some(edge) = self.edges.get_mut(level) else { return Ok(()) };
        edge.hashes.extend_from_slice(&hash);
        if edge.width() < TILE {
            return Ok(());
        }
        let (index, hashes) = (edge.index, std::mem::take(&mut edge.hashes));
        edge.index += 1;
        self.objects
            .put(&tile_key(&level.to_string(), index, TILE), &hashes)
            .map_err(|error| StoreError::io("writing the Merkle log", error))?;
        let mut tree = TreeHasher::default();
        for hash in hashes.chunks_exact(32) {
            tree.push(hash.try_into().unwrap_or_default());
        }
        self.push_edge(level + 1, tree.root())
    }

    /// The partial tiles and the partial bundle that the tree has now; `None` marks the bundle.
    fn partial_keys(&self) -> Vec<(String, Option<usize>)> {
        let mut keys: Vec<_> = self
            .edges
            .iter()
            .enumerate()
            .filter(|(_, edge)| edge.width() > 0)
            .map(|(level, edge)| (tile_key(&level.to_string(), edge.index, edge.width()), Some(level)))
            .collect();
        let width = (self.tree.size() % TILE as u64) as usize;
        if width > 0 {
            keys.push((tile_key(ENTRIES, self.tree.size() / TILE as u64, width), None));
        }
        keys
    }

    fn write_checkpoint(&self) -> Result<(), StoreError> {
        let note = self.signatures.note(self.tree.size(), &self.tree.root())?;
        self.objects
            .replace(CHECKPOINT, note.as_bytes())
            .map_err(|error| StoreError::io("writing the Merkle log", error))
    }

    /// Re-reads the log: hands every leaf to `each` and compares every tile and the checkpoint with them. What does
    /// not fit goes to `findings`. The root, base64.
    pub(crate) fn verify(
        &self,
        each: &mut dyn FnMut(&[u8], &mut Vec<String>),
        findings: &mut Vec<String>,
    ) -> String {
        let signed = self.objects.get(CHECKPOINT, TEXT_BYTES_MAX).ok();
        let Some((size, root)) = signed.and_then(|note| self.signatures.open_note(&note)) else {
            findings.push(format!("{CHECKPOINT}: the signature does not fit"));
            return String::new();
        };
        let mut tree = TreeHasher::default();
        let mut level_hashes = Vec::new();
        for index in 0..size.div_ceil(TILE as u64) {
            let bundle = match self.bundle(index, size) {
                Ok(bundle) => bundle,
                Err(error) => {
                    findings.push(error.to_string());
                    return STANDARD.encode(root);
                }
            };
            let leaves = split_bundle(&bundle).unwrap_or_default();
            if leaves.len() as u64 != (size - index * TILE as u64).min(TILE as u64) {
                findings.push(format!("merkle/tile/entries: bundle {index} is damaged"));
            }
            for leaf in leaves {
                each(leaf, findings);
                let hash = leaf_hash(leaf);
                tree.push(hash);
                level_hashes.push(hash);
            }
        }
        if tree.size() != size || tree.root() != root {
            findings.push("merkle: the leaves do not add up to the signed root".to_owned());
        }
        self.verify_tiles(level_hashes, findings);
        STANDARD.encode(root)
    }

    fn verify_tiles(&self, mut hashes: Vec<Hash>, findings: &mut Vec<String>) {
        for level in 0..LEVELS {
            let mut above = Vec::with_capacity(hashes.len() / TILE);
            for (index, want) in hashes.chunks(TILE).enumerate() {
                match self.tile(level, index as u64, want.len()) {
                    Ok(bytes) if bytes == want.concat() => {}
                    Ok(_) => {
                        findings.push(format!("merkle/tile/{level}: tile {index} does not fit the leaves"))
                    }
                    Err(error) => findings.push(error.to_string()),
                }
                if want.len() == TILE {
                    let mut tree = TreeHasher::default();
                    want.iter().for_each(|hash| tree.push(*hash));
                    above.push(tree.root());
                }
            }
            if above.is_empty() {
                return;
            }
            hashes = above;
        }
    }
}

/// The leaves of a bundle; `None` when it is cut.
fn split_bundle(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut leaves = Vec::new();
    while !bundle.is_empty() {
        let (len, rest) = bundle.split_first_chunk::<2>()?;
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        leaves.push(leaf);
        bundle = rest;
    }
    Some(leaves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealed::testing::{CountingRng, environment};
    use std::path::Path;

    /// RFC 6962's definition, as it stands there.
    fn reference(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(half);
                node_hash(&reference(left), &reference(right))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_rfc_6962() {
        let leaves: Vec<Hash> = (0..600u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = TreeHasher::default();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(tree.root(), reference(&leaves[..size]), "{size}");
            tree.push(*leaf);
        }
    }

    #[test]
    fn many_leaves_at_once_are_the_same_tree() {
        let leaves: Vec<Hash> = (0..600u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for step in [1, 2, 3, 7, 16, 37, 64, 100, 599, 600] {
            let mut tree = TreeHasher::default();
            for (part, some) in leaves.chunks(step).enumerate() {
                let mut some = some.to_vec();
                tree.push_all(&mut some);
                assert!(some.is_empty());
                let size = (part * step + step).min(leaves.len());
                assert_eq!(
                    (tree.size(), tree.root()),
                    (size as u64, reference(&leaves[..size])),
                    "{size} by {step}"
                );
            }
        }
    }

    #[test]
    fn tiles_are_named_as_tlog_tiles_says() {
        for (index, width, want) in [
            (0, 256, "merkle/tile/0/000"),
            (1_234_067, 256, "merkle/tile/0/x001/x234/067"),
            (67, 8, "merkle/tile/0/067.p/8"),
        ] {
            assert_eq!(tile_key("0", index, width), want);
        }
    }

    #[test]
    fn the_log_grows_over_tiles_and_opens_again() {
        let (disk, _, env) = environment();
        let objects = Objects::new(env.disk, Path::new("data"));
        let rng = CountingRng::default();
        let mut want = Vec::new();
        for round in 0..30i64 {
            let mut log = MerkleLog::open(&objects, "aa", Some(&rng), round > 0).unwrap();
            assert_eq!(log.covers().get(Table::Logs), round - 1);
            let leaves: Vec<Leaf> = (0..=round * 2)
                .map(|n| Leaf::from([("n", Value::from(n)), ("round", Value::from(round))]))
                .collect();
            log.append(Table::Logs, round, &leaves).unwrap();
            want.extend(leaves);
            assert_eq!(log.size(), want.len() as u64);
        }
        assert!(want.len() > 2 * TILE);
        let log = MerkleLog::open(&objects, "aa", None, true).unwrap();
        let (mut seen, mut findings) = (Vec::new(), Vec::new());
        log.verify(&mut |leaf, _| seen.push(leaf.to_vec()), &mut findings);
        assert_eq!(findings, Vec::<String>::new());
        for (leaf, want) in seen.iter().zip(&want) {
            let leaf: BTreeMap<String, Value> = serde_json::from_slice(leaf).unwrap();
            assert_eq!(leaf.get("n"), want.get("n"));
        }
        assert_eq!(seen.len(), want.len());
        // Every byte on disk counts, but for the private key, which is not read here.
        for (path, bytes) in disk.dump() {
            if path.ends_with("merkle.key") || path.ends_with("merkle.pub") {
                continue;
            }
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
                let mut bad = bytes.clone();
                bad[at] ^= 0x20;
                disk.overwrite(&path, bad);
                let mut findings = Vec::new();
                match MerkleLog::open(&objects, "aa", None, true) {
                    Ok(log) => drop(log.verify(&mut |_, _| {}, &mut findings)),
                    Err(error) => findings.push(error.to_string()),
                }
                assert!(!findings.is_empty(), "{} at {at}", path.display());
            }
            disk.overwrite(&path, bytes);
        }
    }
}
