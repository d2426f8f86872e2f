//! The table log: which files a table is made of (docs/formats.md, "Table log"). Delta Lake's transaction protocol,
//! reader version 1, writer version 2, so that other engines read the tables.
//!
//! Vocabulary:
//! - *commit*: one numbered JSON file of actions, put if absent; it takes place when its name is durable;
//! - *action*: what a commit does: `add` and `remove` name files, `txn` says how far a node's rows are in,
//!   `metaData` changes the schema, `commitInfo` says why;
//! - *state*: all commits up to a version, replayed;
//! - *checkpoint*: a state as Parquet, so that opening need not replay from the beginning.
//!
//! It does not know what is in the files beyond what their `add` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use threadline_model::id::hex;
use threadline_model::schema::{KeyType, Layout, Origin, PromotedKey, Table};

use crate::StoreError;
use crate::sealed::objects::{Objects, is_temporary};

/// Bytes of a commit at most.
const COMMIT_BYTES_MAX: u64 = 256 << 20;
/// Commits from one checkpoint to the next.
const CHECKPOINT_COMMITS: i64 = 100;
/// The partition column: hour of `ts`, such as `2023-01-29T08`.
pub(crate) const PARTITION: &str = "hour";

/// One line of a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Action {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit_info: Option<CommitInfo>,
    /// Versions a reader and a writer must know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
    /// Schema and properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meta_data: Option<MetaData>,
    /// How far an application's rows are in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txn: Option<Txn>,
    /// A file that is in the table from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) add: Option<Add>,
    /// A file that is not in the table any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remove: Option<Remove>,
}

/// Delta `protocol`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    min_reader_version: i32,
    min_writer_version: i32,
}

/// Delta `metaData`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    id: String,
    name: Option<String>,
    format: Format,
    schema_string: String,
    partition_columns: Vec<String>,
    /// Table properties.
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, String>,
    created_time: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Format {
    provider: String,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// Delta `txn`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    /// Node id, hex.
    pub(crate) app_id: String,
    /// Rows of the node up to this sequence number are in the table.
    pub(crate) version: i64,
    /// Milliseconds since the epoch.
    pub(crate) last_updated: Option<i64>,
}

/// Delta `add`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    /// Path below the table's folder.
    pub(crate) path: String,
    /// `hour`.
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub(crate) size: i64,
    /// Milliseconds since the epoch.
    pub(crate) modification_time: i64,
    /// False when the rows were in the table before.
    pub(crate) data_change: bool,
    /// JSON: `numRecords`, `minValues`, `maxValues`, `nullCount`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) stats: Option<String>,
    /// What Threadline keeps of a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// Delta `remove`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    /// Path below the table's folder.
    pub(crate) path: String,
    /// Milliseconds since the epoch.
    pub(crate) deletion_timestamp: Option<i64>,
    /// False when the rows stay in the table.
    pub(crate) data_change: bool,
    /// Whether the following members are there.
    #[serde(default)]
    pub(crate) extended_file_metadata: Option<bool>,
    /// `hour`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) partition_values: Option<BTreeMap<String, Option<String>>>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) size: Option<i64>,
    /// As in the `add`, and why it went.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) tags: Option<BTreeMap<String, String>>,
}

/// Delta `commitInfo`: provenance for people and for the Merkle log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CommitInfo {
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub(crate) timestamp: i64,
    /// One of [`Operation`]'s names.
    #[serde(default)]
    pub(crate) operation: String,
    /// Details by name.
    #[serde(default)]
    pub(crate) operation_parameters: BTreeMap<String, String>,
    /// Program and version.
    #[serde(default)]
    pub(crate) engine_info: String,
}

impl Action {
    /// An `add`.
    pub(crate) fn add(add: Add) -> Action {
        Action { add: Some(add), ..Action::default() }
    }

    /// A `remove`.
    pub(crate) fn remove(remove: Remove) -> Action {
        Action { remove: Some(remove), ..Action::default() }
    }

    /// A `txn`.
    pub(crate) fn txn(txn: Txn) -> Action {
        Action { txn: Some(txn), ..Action::default() }
    }

    /// A `metaData`.
    pub(crate) fn meta_data(meta_data: MetaData) -> Action {
        Action { meta_data: Some(meta_data), ..Action::default() }
    }

    /// A `commitInfo`.
    pub(crate) fn commit_info(operation: Operation, now_us: i64, parameters: &[(&str, String)]) -> Action {
        let operation_parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let info = CommitInfo {
            timestamp: now_us / 1000,
            operation: operation.name().to_owned(),
            operation_parameters,
            engine_info: concat!("threadline/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Action { commit_info: Some(info), ..Action::default() }
    }
}

/// What a commit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The table is new.
    Create,
    /// Rows of the memory table became files.
    Seal,
    /// Files became fewer, larger files with the same rows.
    Compact,
    /// Rows past their time, or past the size bound, were deleted.
    Retention,
    /// Rows were deleted on request.
    Erase,
}

impl Operation {
    /// Name in `commitInfo`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE TABLE",
            Operation::Seal => "WRITE",
            Operation::Compact => "OPTIMIZE",
            Operation::Retention => "RETENTION",
            Operation::Erase => "DELETE",
        }
    }

    /// The operation of this name.
    pub(crate) fn parse(name: &str) -> Option<Operation> {
        [Operation::Create, Operation::Seal, Operation::Compact, Operation::Retention, Operation::Erase]
            .into_iter()
            .find(|operation| operation.name() == name)
    }
}

/// All commits up to a version, replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// The last commit; -1 when there is none.
    pub(crate) version: i64,
    /// Protocol of the table.
    pub(crate) protocol: Option<Protocol>,
    /// Schema and properties.
    pub(crate) meta_data: Option<MetaData>,
    /// Files by path.
    pub(crate) files: BTreeMap<String, Add>,
    /// `txn` by application.
    pub(crate) txns: BTreeMap<String, Txn>,
}

impl State {
    /// No commit at all.
    pub(crate) fn empty() -> State {
        State { version: -1, ..State::default() }
    }

    /// Replays a commit.
    ///
    /// # Errors
    /// When the table needs a newer program.
    pub(crate) fn apply(&mut self, version: i64, actions: &[Action]) -> Result<(), StoreError> {
        for action in actions {
            if let Some(protocol) = &action.protocol {
                if protocol.min_reader_version > 1 || protocol.min_writer_version > 2 {
                    return Err(StoreError::Invalid {
                        detail: format!(
                            "the table needs Delta reader {} and writer {}; this program knows 1 and 2: use a newer one",
                            protocol.min_reader_version, protocol.min_writer_version
                        ),
                    });
                }
                self.protocol = Some(protocol.clone());
            }
            if let Some(meta_data) = &action.meta_data {
                self.meta_data = Some(meta_data.clone());
            }
            if let Some(txn) = &action.txn {
                self.txns.insert(txn.app_id.clone(), txn.clone());
            }
            if let Some(remove) = &action.remove {
                self.files.remove(&remove.path);
            }
            if let Some(add) = &action.add {
                self.files.insert(add.path.clone(), add.clone());
            }
        }
        self.version = version;
        Ok(())
    }
}

/// Whether a commit took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// As this version.
    Done(i64),
    /// Another writer was first: the state has been refreshed.
    Conflict,
}

/// The log of one table, with its state at the last commit seen.
pub(crate) struct TableLog {
    objects: Objects,
    table: Table,
    folder: String,
    state: State,
    /// Version of the last checkpoint; -1 = none.
    checkpoint: i64,
    checkpoint_trouble: Option<String>,
}

/// Folder of a table below the data folder.
pub(crate) fn table_folder(table: Table) -> String {
    format!("tables/default/{}", table.name())
}

impl TableLog {
    /// Whether there is a table.
    pub(crate) fn exists(objects: &Objects, table: Table) -> Result<bool, StoreError> {
        let folder = format!("{}/_delta_log", table_folder(table));
        let found = objects.find(&format!("{folder}/{:020}.json", 0), COMMIT_BYTES_MAX);
        found
            .map(|found| found.is_some())
            .map_err(|error| StoreError::io(format!("reading the table log of {}", table.name()), error))
    }

    /// Opens a table, creating it unless `read_only`. `id` is used for a new one.
    pub(crate) fn open(
        objects: &Objects,
        table: Table,
        read_only: bool,
        id: impl FnOnce() -> [u8; 16],
        elide_ids: bool,
        now_us: i64,
    ) -> Result<TableLog, StoreError> {
        let folder = format!("{}/_delta_log", table_folder(table));
        let mut log = TableLog {
            objects: objects.clone(),
            table,
            folder,
            state: State::empty(),
            checkpoint: -1,
            checkpoint_trouble: None,
        };
        if !read_only {
            log.objects.make_folder(&log.folder).map_err(|error| log.io("creating", error))?;
        }
        log.load_checkpoint()?;
        log.refresh(read_only)?;
        if log.state.version < 0 && !read_only {
            let actions = create_actions(table, id(), elide_ids, now_us)?;
            log.commit(&actions)?;
        }
        Ok(log)
    }

    /// The state at the last commit seen.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The columns of the table.
    pub(crate) fn layout(&self) -> Result<Layout, StoreError> {
        match &self.state.meta_data {
            Some(meta_data) => layout_of(self.table, &meta_data.schema_string),
            None => Ok(Layout::base(self.table)),
        }
    }

    fn io(&self, doing: &str, error: std::io::Error) -> StoreError {
        StoreError::io(format!("{doing} the table log of {}", self.table.name()), error)
    }

    fn key(&self, version: i64) -> String {
        format!("{}/{version:020}.json", self.folder)
    }

    /// The actions of a commit and the SHA-256 of its bytes; `None` when there is none of this version.
    pub(crate) fn read(&self, version: i64) -> Result<Option<(Vec<Action>, [u8; 32])>, StoreError> {
        let bytes = self
            .objects
            .find(&self.key(version), COMMIT_BYTES_MAX)
            .map_err(|error| self.io("reading", error))?;
        let Some(bytes) = bytes else { return Ok(None) };
        bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| {
                    StoreError::corrupt(format!(
                        "commit {version} of the table log of {} cannot be read: {error}",
                        self.table.name()
                    ))
                })
            })
            .collect::<Result<Vec<Action>, _>>()
            .map(|actions| Some((actions, Sha256::digest(&bytes).into())))
    }

    /// Replays commits that came since. Their names are made durable first: what is built on them must not outlive
    /// them.
    pub(crate) fn refresh(&mut self, read_only: bool) -> Result<(), StoreError> {
        if !read_only {
            self.objects.settle(&self.folder).map_err(|error| self.io("syncing", error))?;
        }
        while let Some((actions, _)) = self.read(self.state.version + 1)? {
            self.state.apply(self.state.version + 1, &actions)?;
        }
        Ok(())
    }

    /// Puts the next commit. On [`Commit::Conflict`] nothing was done but to refresh the state.
    ///
    /// # Errors
    /// When the disk fails. The commit may have taken place then: [`TableLog::refresh`] tells.
    pub(crate) fn commit(&mut self, actions: &[Action]) -> Result<Commit, StoreError> {
        let version = self.state.version + 1;
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, action)
                .map_err(|error| StoreError::corrupt(format!("an action cannot be written: {error}")))?;
            bytes.push(b'\n');
        }
        let done = self
            .objects
            .put_if_absent(&self.key(version), &bytes)
            .map_err(|error| self.io("writing", error))?;
        if !done {
            self.refresh(false)?;
            return Ok(Commit::Conflict);
        }
        self.state.apply(version, actions)?;
        Ok(Commit::Done(version))
    }

    /// Removes what crashes left of unfinished commits.
    pub(crate) fn tidy(&self) -> Result<(), StoreError> {
        for entry in self.objects.list(&self.folder).map_err(|error| self.io("listing", error))? {
            if is_temporary(&entry.name) {
                let key = format!("{}/{}", self.folder, entry.name);
                self.objects.delete(&key).map_err(|error| self.io("tidying", error))?;
            }
        }
        Ok(())
    }

    /// Why the last checkpoint was not used. All commits are kept, so it only costs time.
    pub(crate) fn checkpoint_trouble(&self) -> Option<&str> {
        self.checkpoint_trouble.as_deref()
    }

    fn load_checkpoint(&mut self) -> Result<(), StoreError> {
        let last = self
            .objects
            .find(&format!("{}/_last_checkpoint", self.folder), COMMIT_BYTES_MAX)
            .map_err(|error| self.io("reading", error))?;
        let Some(last) = last else { return Ok(()) };
        match self.read_checkpoint(&last) {
            Ok(state) => {
                self.checkpoint = state.version;
                self.state = state;
            }
            Err(error) => {
                let table = self.table.name();
                self.checkpoint_trouble = Some(format!("{table}: the checkpoint cannot be used: {error}"));
            }
        }
        Ok(())
    }

    fn read_checkpoint(&self, last: &[u8]) -> Result<State, StoreError> {
        let bad = |error: serde_json::Error| StoreError::corrupt(error.to_string());
        let last: LastCheckpoint = serde_json::from_slice(last).map_err(bad)?;
        let bytes = self
            .objects
            .get(&self.checkpoint_key(last.version), COMMIT_BYTES_MAX)
            .map_err(|error| self.io("reading", error))?;
        let mut lines = arrow_json::LineDelimitedWriter::new(Vec::new());
        for batch in ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?.build()? {
            lines.write(&batch?)?;
        }
        lines.finish()?;
        let actions = lines
            .into_inner()
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).map_err(bad))
            .collect::<Result<Vec<Action>, _>>()?;
        if actions.len() as u64 != last.size {
            return Err(StoreError::corrupt("the number of actions is another"));
        }
        let mut state = State::empty();
        state.apply(last.version, &actions)?;
        Ok(state)
    }

    fn checkpoint_key(&self, version: i64) -> String {
        format!("{}/{version:020}.checkpoint.parquet", self.folder)
    }

    /// Writes a checkpoint when enough commits came since the last one.
    pub(crate) fn checkpoint_when_due(&mut self) -> Result<(), StoreError> {
        let version = self.state.version;
        if version - self.checkpoint < CHECKPOINT_COMMITS {
            return Ok(());
        }
        let mut actions = vec![
            Action { protocol: self.state.protocol.clone(), ..Action::default() },
            Action { meta_data: self.state.meta_data.clone(), ..Action::default() },
        ];
        actions.extend(self.state.txns.values().cloned().map(Action::txn));
        actions.extend(self.state.files.values().cloned().map(Action::add));
        let bytes = checkpoint_bytes(&actions)?;
        let last = LastCheckpoint { version, size: actions.len() as u64 };
        let last = serde_json::to_vec(&last).map_err(|error| StoreError::corrupt(error.to_string()))?;
        self.objects
            .put(&self.checkpoint_key(version), &bytes)
            .and_then(|()| self.objects.replace(&format!("{}/_last_checkpoint", self.folder), &last))
            .map_err(|error| self.io("writing a checkpoint of", error))?;
        self.checkpoint = version;
        self.checkpoint_trouble = None;
        Ok(())
    }
}

/// Delta `_last_checkpoint`.
#[derive(Serialize, Deserialize)]
struct LastCheckpoint {
    version: i64,
    /// Number of actions.
    size: u64,
}

fn checkpoint_bytes(actions: &[Action]) -> Result<Vec<u8>, StoreError> {
    let mut decoder = arrow_json::ReaderBuilder::new(checkpoint_schema())
        .with_batch_size(actions.len().max(1))
        .build_decoder()?;
    decoder.serialize(actions)?;
    let Some(batch) = decoder.flush()? else { return Err(StoreError::corrupt("a checkpoint without actions")) };
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// Delta's schema of a V1 checkpoint.
fn checkpoint_schema() -> SchemaRef {
    use DataType::{Boolean, Int32, Int64, Utf8};
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let map = |name: &str| {
        let entries = Fields::from(vec![Field::new("key", Utf8, false), field("value", Utf8)]);
        let entries = Field::new("key_value", DataType::Struct(entries), false);
        field(name, DataType::Map(Arc::new(entries), false))
    };
    let structure = |name: &str, fields: Vec<Field>| field(name, DataType::Struct(Fields::from(fields)));
    let list = DataType::List(Arc::new(field("element", Utf8)));
    Arc::new(Schema::new(vec![
        structure("protocol", vec![field("minReaderVersion", Int32), field("minWriterVersion", Int32)]),
        structure(
            "metaData",
            vec![
                field("id", Utf8),
                field("name", Utf8),
                field("description", Utf8),
                structure("format", vec![field("provider", Utf8), map("options")]),
                field("schemaString", Utf8),
                field("partitionColumns", list),
                map("configuration"),
                field("createdTime", Int64),
            ],
        ),
        structure("txn", vec![field("appId", Utf8), field("version", Int64), field("lastUpdated", Int64)]),
        structure(
            "add",
            vec![
                field("path", Utf8),
                map("partitionValues"),
                field("size", Int64),
                field("modificationTime", Int64),
                field("dataChange", Boolean),
                field("stats", Utf8),
                map("tags"),
            ],
        ),
        structure(
            "remove",
            vec![field("path", Utf8), field("deletionTimestamp", Int64), field("dataChange", Boolean)],
        ),
    ]))
}

fn create_actions(table: Table, id: [u8; 16], elide_ids: bool, now_us: i64) -> Result<Vec<Action>, StoreError> {
    let configuration = BTreeMap::from([("threadline.elide_ids".to_owned(), elide_ids.to_string())]);
    let meta_data = MetaData {
        id: guid(id),
        name: Some(table.name().to_owned()),
        format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
        schema_string: schema_string(&Layout::base(table))?,
        partition_columns: vec![PARTITION.to_owned()],
        configuration,
        created_time: Some(now_us / 1000),
    };
    Ok(vec![
        Action::commit_info(Operation::Create, now_us, &[]),
        Action {
            protocol: Some(Protocol { min_reader_version: 1, min_writer_version: 2 }),
            ..Action::default()
        },
        Action::meta_data(meta_data),
    ])
}

/// A version-4 UUID of 16 random bytes.
fn guid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[derive(Serialize, Deserialize)]
struct StructType {
    r#type: String,
    fields: Vec<StructField>,
}

#[derive(Serialize, Deserialize)]
struct StructField {
    name: String,
    r#type: serde_json::Value,
    nullable: bool,
    metadata: serde_json::Value,
}

/// The schema of a layout in Delta's JSON, the partition column last.
pub(crate) fn schema_string(layout: &Layout) -> Result<String, StoreError> {
    let schema = layout.schema();
    let field = |name: &str, kind: &str| StructField {
        name: name.to_owned(),
        r#type: kind.into(),
        // Files may lack any column in which every row is null.
        nullable: true,
        metadata: serde_json::json!({}),
    };
    let mut fields: Vec<StructField> = schema
        .fields()
        .iter()
        .map(|column| {
            let kind = match column.data_type() {
                DataType::Int8 => "byte",
                DataType::Int16 => "short",
                DataType::Int32 => "integer",
                DataType::Int64 => "long",
                DataType::Float64 => "double",
                DataType::Boolean => "boolean",
                DataType::Timestamp(..) => "timestamp",
                DataType::FixedSizeBinary(_) => "binary",
                _ => "string",
            };
            field(column.name(), kind)
        })
        .collect();
    fields.push(field(PARTITION, "string"));
    serde_json::to_string(&StructType { r#type: "struct".to_owned(), fields })
        .map_err(|error| StoreError::corrupt(format!("a schema cannot be written: {error}")))
}

/// The layout that a schema in Delta's JSON stands for: what is not a fixed or a base column was promoted.
fn layout_of(table: Table, schema: &str) -> Result<Layout, StoreError> {
    let schema: StructType = serde_json::from_str(schema).map_err(|error| {
        StoreError::corrupt(format!("the schema of table {} cannot be read: {error}", table.name()))
    })?;
    let mut layout = Layout::base(table);
    let base = layout.schema();
    for field in schema.fields {
        if base.index_of(&field.name).is_ok() || field.name == PARTITION {
            continue;
        }
        let key_type = match field.r#type.as_str() {
            Some("string") => KeyType::Str,
            Some("long") => KeyType::Int,
            Some("double") => KeyType::Double,
            Some("boolean") => KeyType::Bool,
            _ => continue,
        };
        layout.promoted.push(PromotedKey { key: Arc::from(field.name), key_type, origin: Origin::Record });
    }
    Ok(layout)
}

impl MetaData {
    /// The same table with the columns of another layout.
    pub(crate) fn with_layout(&self, layout: &Layout) -> Result<MetaData, StoreError> {
        Ok(MetaData { schema_string: schema_string(layout)?, ..self.clone() })
    }
}
