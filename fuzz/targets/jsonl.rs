//! JSON lines: every request gets an answer, the answer's figures agree, and each line fares alone as it does among
//! the others.
#![no_main]

use std::sync::{Arc, LazyLock};

use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::inspect::Unchecked;
use threadline_model::jsonl::{Decoded, FAULTS_KEPT_MAX, LineParser, Mapping, decode, is_blank};
use threadline_model::schema::{Layout, Table};

static MAPPING: LazyLock<Arc<Mapping>> = LazyLock::new(|| Arc::new(Mapping::default()));

fn run(request: &[u8]) -> Decoded {
    let builder = |table| {
        BatchBuilder::new(Arc::new(Layout::base(table)), 1_700_000_000_000_000, RecordLimits::default())
    };
    let (mut logs, mut spans) = (builder(Table::Logs), builder(Table::Spans));
    let mut parser = LineParser::new(Arc::clone(&MAPPING));
    let decoded = decode(request, &mut parser, 4 << 20, &mut logs, &mut spans, &mut Unchecked);
    assert_eq!((decoded.logs, decoded.spans), (logs.rows(), spans.rows()));
    assert_eq!(decoded.faults.len(), decoded.refused.min(FAULTS_KEPT_MAX));
    for builder in [logs, spans] {
        let rows = builder.rows();
        let batch = builder.finish().expect("columns that fit together");
        assert_eq!(batch.map_or(0, |batch| batch.num_rows()), rows);
    }
    decoded
}

libfuzzer_sys::fuzz_target!(|request: &[u8]| {
    let whole = run(request);
    let lines = request.split(|byte| *byte == b'\n');
    assert_eq!(whole.logs + whole.spans + whole.refused, lines.clone().filter(|line| !is_blank(line)).count());
    for fault in &whole.faults {
        assert!(!fault.reason.is_empty());
        let line = lines.clone().nth(fault.line - 1).expect("a line that is there");
        assert_eq!(run(line).faults.first().map(|fault| &fault.reason), Some(&fault.reason));
    }
});
