//! What a commit of a table log says in the Merkle log. A pure function of the commit, so that leaves which a crash
//! left out are made again, and so that a verification compares the two logs byte by byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use threadline_model::id::hex;
use threadline_model::schema::Table;

use crate::merkle::Leaf;
use crate::sealed::catalogue::{TAG_ROOT, TAG_ROWS, TAG_SEQ, TAG_SHA256};
use crate::table_log::{Action, Add, Operation, Remove};

/// Tag of a `remove`: rows that were deleted with the file.
pub(crate) const TAG_DELETED: &str = "threadline.deleted_rows";
/// Tag of a `remove`: the retention rule that deleted them.
pub(crate) const TAG_RULE: &str = "threadline.rule";
/// Tag of a `remove`: the file that has the remaining rows.
pub(crate) const TAG_OUTPUT: &str = "threadline.output";
/// Parameter of `commitInfo`: the record of an erasure.
pub(crate) const PARAMETER_RECORD: &str = "record";

type Tags = Option<BTreeMap<String, String>>;

fn tag<'a>(tags: &'a Tags, name: &str) -> Option<&'a str> {
    tags.as_ref()?.get(name).map(String::as_str)
}

fn number(tags: &Tags, name: &str) -> Value {
    tag(tags, name).and_then(|text| text.parse::<i64>().ok()).map_or(Value::Null, Value::from)
}

fn file(path: &str, tags: &Tags) -> Value {
    let members: BTreeMap<&str, Value> = BTreeMap::from([
        ("path", json!(path)),
        ("rows", number(tags, TAG_ROWS)),
        ("rows_root", json!(tag(tags, TAG_ROOT))),
        ("seq", json!(tag(tags, TAG_SEQ))),
        ("sha256", json!(tag(tags, TAG_SHA256))),
    ]);
    json!(members)
}

/// The leaves of a commit, in the order of its actions; at least one. `sha256` is that of the commit's bytes.
pub(crate) fn leaves_of(table: Table, version: i64, actions: &[Action], sha256: &[u8; 32]) -> Vec<Leaf> {
    let info = actions.iter().find_map(|action| action.commit_info.as_ref());
    let operation = info.and_then(|info| Operation::parse(&info.operation));
    let adds: Vec<&Add> = actions.iter().filter_map(|action| action.add.as_ref()).collect();
    let removes: Vec<&Remove> = actions.iter().filter_map(|action| action.remove.as_ref()).collect();
    let leaf = |kind: &str, members: Vec<(&'static str, Value)>| {
        let mut leaf = Leaf::from([
            ("commit_sha256", json!(hex(sha256))),
            ("kind", json!(kind)),
            ("table", json!(table.name())),
            ("time", json!(info.map_or(0, |info| info.timestamp))),
            ("version", json!(version)),
        ]);
        leaf.extend(members);
        leaf
    };
    let output_of = |remove: &Remove| {
        let output = tag(&remove.tags, TAG_OUTPUT)?;
        adds.iter().find(|add| add.path == output).map(|add| file(&add.path, &add.tags))
    };
    let changed = |remove: &Remove| {
        vec![
            ("deleted_rows", number(&remove.tags, TAG_DELETED)),
            ("input", file(&remove.path, &remove.tags)),
            ("output", output_of(remove).unwrap_or(Value::Null)),
        ]
    };
    if adds.is_empty() && removes.is_empty() {
        return vec![leaf("commit", Vec::new())];
    }
    match operation {
        Some(Operation::Compact) => {
            let inputs: Vec<Value> = removes.iter().map(|remove| file(&remove.path, &remove.tags)).collect();
            let output = adds.first().map_or(Value::Null, |add| file(&add.path, &add.tags));
            vec![leaf("compact", vec![("inputs", json!(inputs)), ("output", output)])]
        }
        Some(Operation::Retention) => removes
            .iter()
            .map(|remove| {
                let mut members = changed(remove);
                members.push(("rule", json!(tag(&remove.tags, TAG_RULE))));
                leaf("tombstone", members)
            })
            .collect(),
        Some(Operation::Erase) => {
            let record = info.and_then(|info| info.operation_parameters.get(PARAMETER_RECORD));
            removes
                .iter()
                .map(|remove| {
                    let mut members = changed(remove);
                    members.push(("record", json!(record)));
                    leaf("erase", members)
                })
                .collect()
        }
        Some(Operation::Create | Operation::Seal) | None => {
            // Of other writers: whatever they did to files.
            let added = adds.iter().map(|add| leaf("seal", vec![("output", file(&add.path, &add.tags))]));
            let removed =
                removes.iter().map(|remove| leaf("remove", vec![("input", file(&remove.path, &remove.tags))]));
            added.chain(removed).collect()
        }
    }
}
