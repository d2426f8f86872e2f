//! Re-reads sealed files, table logs and Merkle log, and compares them with each other. What does not fit is a finding.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use threadline_model::schema::Table;

use crate::Prune;
use crate::merkle::{Covers, Leaf, encode_leaf};
use crate::sealed::Sealed;
use crate::sealed::leaves::leaves_of;
use crate::sealed::reader::SealedFile;
use crate::sealed::row_root::RowHasher;
use crate::table_log::{Action, State};
use crate::{StoreError, VerifyReport};

/// Leaves that the table logs call for, by table and version, in order.
type Expected = BTreeMap<(Table, i64), Vec<Leaf>>;

impl Sealed {
    /// Adds to the report: every file against the table log (SHA-256, rows, row root), each table log's continuity,
    /// the Merkle log's leaves against the commits and its tiles against the signed checkpoint.
    ///
    /// # Errors
    /// Only when the disk fails in a way that says nothing about the data.
    pub(crate) fn verify(&self, report: &mut VerifyReport) -> Result<(), StoreError> {
        let mut expected = Expected::new();
        let mut files = Vec::new();
        {
            // Both tables and the Merkle log at one moment.
            let sides = Table::ALL.map(|table| self.side(table));
            // A commit whose leaves could not be written yet is no finding: the next writer would write them, too.
            for side in sides.iter().filter(|_| self.writable().is_ok()) {
                self.log_leaves(side)?;
            }
            for (table, side) in Table::ALL.into_iter().zip(&sides) {
                report.findings.extend(side.log.checkpoint_trouble().map(str::to_owned));
                let mut replayed = State::empty();
                for version in 0..=side.log.state().version {
                    match side.log.read(version) {
                        Ok(Some((actions, sha256))) => {
                            follow(table, version, &actions, &mut replayed, &mut report.findings);
                            expected.insert((table, version), leaves_of(table, version, &actions, &sha256));
                        }
                        Ok(None) => {
                            report.findings.push(format!("{}: commit {version} is missing", table.name()))
                        }
                        Err(error) => report.findings.push(error.to_string()),
                    }
                }
                if *side.log.state() != replayed {
                    report
                        .findings
                        .push(format!("{}: the state in use is not what the commits say", table.name()));
                }
            }
            files.extend(Table::ALL.into_iter().flat_map(|table| self.catalogue().table(table).files.clone()));
            self.verify_merkle(&mut expected, report);
        }
        for file in files {
            verify_file(&file, report);
        }
        Ok(())
    }

    fn verify_merkle(&self, expected: &mut Expected, report: &mut VerifyReport) {
        report.findings.extend(self.merkle_trouble.clone());
        let merkle = self.merkle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(merkle) = merkle.as_ref() else { return };
        let mut covers = Covers::NONE;
        let mut pending: Option<((Table, i64), std::vec::IntoIter<Leaf>)> = None;
        let (mut leaves, mut tombstones) = (0, 0);
        let mut each = |leaf: &[u8], findings: &mut Vec<String>| {
            leaves += 1;
            if pending.as_ref().is_none_or(|(_, rest)| rest.len() == 0) {
                pending = next_commit(leaf, expected);
                if let Some(((table, version), _)) = &pending {
                    covers.set(*table, *version);
                }
            }
            let want = pending.as_mut().and_then(|(_, rest)| rest.next());
            if want.as_ref().and_then(|want| want.get("kind")).is_some_and(|kind| kind == "tombstone") {
                tombstones += 1;
            }
            if want.and_then(|want| encode_leaf(&want, covers).ok()).as_deref() != Some(leaf) {
                findings.push(format!("merkle: leaf {} does not fit the table log", leaves - 1));
            }
        };
        report.merkle_root = merkle.verify(&mut each, &mut report.findings);
        report.merkle_leaves += leaves;
        report.tombstones += tombstones;
        for (table, version) in expected.keys() {
            report.findings.push(format!("{}: commit {version} has no leaf in the Merkle log", table.name()));
        }
    }
}

/// The commit that a leaf says it belongs to, taken out of those that still lack theirs.
fn next_commit(leaf: &[u8], expected: &mut Expected) -> Option<((Table, i64), std::vec::IntoIter<Leaf>)> {
    let leaf: serde_json::Value = serde_json::from_slice(leaf).ok()?;
    let table = Table::parse(leaf.get("table")?.as_str()?)?;
    let key = (table, leaf.get("version")?.as_i64()?);
    // Commits of a table come in their order.
    let first = expected.range((table, i64::MIN)..=(table, i64::MAX)).next()?.0;
    if *first != key {
        return None;
    }
    expected.remove(&key).map(|leaves| (key, leaves.into_iter()))
}

/// Replays a commit: a file is added once and removed once.
fn follow(table: Table, version: i64, actions: &[Action], state: &mut State, findings: &mut Vec<String>) {
    let name = table.name();
    for remove in actions.iter().filter_map(|action| action.remove.as_ref()) {
        if !state.files.contains_key(&remove.path) {
            findings.push(format!("{name}: commit {version} removes {}, which is not there", remove.path));
        }
    }
    for add in actions.iter().filter_map(|action| action.add.as_ref()) {
        if state.files.contains_key(&add.path) {
            findings.push(format!("{name}: commit {version} adds {} again", add.path));
        }
    }
    if let Err(error) = state.apply(version, actions) {
        findings.push(format!("{name}: commit {version}: {error}"));
    }
}

fn verify_file(file: &Arc<SealedFile>, report: &mut VerifyReport) {
    let meta = file.meta();
    let name = format!("{}/{}", meta.table.name(), meta.path);
    report.files += 1;
    match file.digest() {
        Ok((sha256, bytes)) if sha256 == meta.sha256 && bytes == meta.bytes => {}
        Ok(_) => {
            // What is inside needs no second finding, and bytes that were not written are not parsed.
            report.findings.push(format!("{name}: the SHA-256 is not that of the table log"));
            return;
        }
        Err(error) => {
            report.findings.push(format!("{name}: {error}"));
            return;
        }
    }
    match hash_rows(file) {
        Ok((rows, root)) => {
            report.rows += rows;
            if rows != meta.rows {
                report.findings.push(format!("{name}: {rows} rows, the table log says {}", meta.rows));
            }
            if root != meta.rows_root {
                report.findings.push(format!("{name}: the row root is not that of the table log"));
            }
        }
        Err(error) => report.findings.push(format!("{name}: {error}")),
    }
}

fn hash_rows(file: &Arc<SealedFile>) -> Result<(u64, [u8; 32]), StoreError> {
    let mut hasher = RowHasher::default();
    for batch in file.scan(None, &Prune::default())? {
        hasher.update(&batch?)?;
    }
    Ok((hasher.rows(), hasher.root()))
}
