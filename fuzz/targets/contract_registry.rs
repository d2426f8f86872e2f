//! The registry reader: whatever a company's folder says, a contract that records can be checked by, or problems that say
//! where and what.
#![no_main]

use std::borrow::Cow;
use std::sync::Arc;

use threadline_contract::registry::{File, Layer, load};
use threadline_contract::score::Board;
use threadline_contract::{Contract, Guard, Policy, diff, page};
use threadline_model::record::LogView;
use threadline_model::value::Value;

/// A small layer below, so that references lead somewhere.
const BELOW: &str = "file_format: definition/2
attributes:
  - { key: a.b, type: string, stability: stable, brief: b }
  - { key: a.n, type: int, stability: stable, brief: b }
  - { key: a.t, type: 'template[string]', stability: stable, brief: b }
events:
  - name: e.f
    stability: stable
    brief: b
    attributes:
      - { ref: a.b, requirement_level: required }
";

fn layer(path: &str, text: &str) -> Layer {
    Layer { files: vec![File { path: path.to_owned(), text: Cow::Owned(text.to_owned()) }] }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let below = load(&[layer("below.yaml", BELOW)]).expect("the layer below is one");
    match load(&[layer("below.yaml", BELOW), layer("own.yaml", text)]) {
        Ok(registry) => {
            assert!(registry.attributes.len() >= below.attributes.len(), "a layer takes nothing away");
            assert!(registry.events.len() >= below.events.len());
            let _ = diff::diff(&below, &registry);
            let _ = page::page(&registry);
            let contract = Arc::new(Contract::new(registry, Policy::default()));
            let names: Vec<String> = contract.registry().events.keys().cloned().collect();
            let mut guard = Guard::new(Arc::clone(&contract), Arc::new(Board::new()));
            for name in names.iter().map(String::as_str).chain(["", "none"]) {
                let attributes = [("a.b", Value::Str(text)), ("a.n", Value::Int(1)), ("a.t.x", Value::Bool(true))];
                let log = LogView { event_name: name, attributes: &attributes, ..LogView::default() };
                guard.judge(&log);
            }
        }
        Err(problems) => {
            let said = problems.to_string();
            assert!(said.contains("own.yaml"), "{said}");
        }
    }
});
