//! The golden corpus: every file of `corpus/` that ends in `.hex` or `.json` is a request, named after its signal
//! (`logs-…`, `traces-…`, `metrics-…`); the file with `.want` added says what it decodes to. Hex files take `#`
//! comments and `"text"`. To write the `.want` files anew: `UPDATE_GOLDEN=1 cargo test -p threadline-model corpus`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use threadline_model::columns::Batch;
use threadline_model::inspect::Unchecked;
use threadline_model::otlp::{Decoded, Format, Malformed, count_data_points, decode_logs, decode_traces};
use threadline_model::schema::Table;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex" || extension == "json"))
        .collect();
    files.sort();
    files
}

/// Bytes of a hex file.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        for (at, part) in line.split('"').enumerate() {
            if at % 2 == 1 {
                bytes.extend_from_slice(part.as_bytes());
                continue;
            }
            let (code, comment) = part.split_once('#').map_or((part, false), |(code, _)| (code, true));
            let digits: String = code.split_whitespace().collect();
            for pair in digits.as_bytes().chunks(2) {
                bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
            if comment {
                break;
            }
        }
    }
    bytes
}

/// The columns of every row, then what was refused.
fn rendering(batch: Option<&RecordBatch>, decoded: &Decoded) -> String {
    let mut out = String::new();
    let rows = batch.map_or(0, RecordBatch::num_rows);
    for row in 0..rows {
        let _ = writeln!(out, "record");
        let record_batch = batch.unwrap();
        let batch = Batch::new(record_batch);
        for field in record_batch.schema().fields() {
            let name = field.name().as_str();
            let text = match name {
                "trace_id" => batch.trace_id(row).map(|id| id.to_string()),
                "span_id" => batch.span_id(row).map(|id| id.to_string()),
                "parent_span_id" => batch.parent_span_id(row).map(|id| id.to_string()),
                "arrival_ts" => None,
                "body_json" => batch.attribute(name, row).map(|text| text.into_owned()),
                _ => (batch.str(name).get(row).map(str::to_owned))
                    .or_else(|| batch.int(name).get(row).map(|int| int.to_string()))
                    .or_else(|| batch.attribute(name, row).map(|text| text.into_owned())),
            };
            if let Some(text) = text {
                let _ = writeln!(out, "  {name} = {text}");
            }
        }
    }
    for refusal in &decoded.refusals {
        let _ = writeln!(out, "refused {}: {refusal}", refusal.record);
    }
    let _ = writeln!(out, "accepted {}, refused {}", decoded.accepted, decoded.refused);
    out
}

fn decode(signal: &str, format: Format, request: &[u8]) -> Result<String, Malformed> {
    if signal == "metrics" {
        return Ok(format!("{} data points\n", count_data_points(format, request)?));
    }
    let table = if signal == "logs" { Table::Logs } else { Table::Spans };
    let mut builder = super::builder(table);
    let decoded = match table {
        Table::Logs => decode_logs(format, request, &mut builder, &mut Unchecked)?,
        Table::Spans => decode_traces(format, request, &mut builder, &mut Unchecked)?,
    };
    Ok(rendering(builder.finish().unwrap().as_ref(), &decoded))
}

#[test]
fn the_corpus_decodes_as_written_down() {
    let files = files();
    assert!(files.len() > 30, "the corpus is missing");
    let mut wrong = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let signal = name.split('-').next().unwrap();
        assert!(["logs", "traces", "metrics"].contains(&signal), "{name}");
        let content = std::fs::read(&path).unwrap();
        let (format, request) = if name.ends_with(".json") {
            (Format::Json, content)
        } else {
            (Format::Protobuf, hex(&String::from_utf8(content).unwrap()))
        };
        let found =
            decode(signal, format, &request).unwrap_or_else(|malformed| format!("malformed {malformed}\n"));
        let golden = path.with_file_name(format!("{name}.want"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != want {
            wrong.push(format!("{name}\n--- want\n{want}--- found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A corpus file in protobuf and its twin in JSON say the same.
#[test]
fn twins_decode_alike() {
    let mut twins = 0;
    for path in files() {
        let json = path.with_extension("json");
        if path.extension().is_some_and(|extension| extension == "hex") && json.exists() {
            let signal = path.file_name().unwrap().to_str().unwrap().split('-').next().unwrap().to_owned();
            let request = hex(&std::fs::read_to_string(&path).unwrap());
            let protobuf = decode(&signal, Format::Protobuf, &request);
            assert_eq!(protobuf, decode(&signal, Format::Json, &std::fs::read(&json).unwrap()), "{path:?}");
            twins += 1;
        }
    }
    assert!(twins > 2);
}
