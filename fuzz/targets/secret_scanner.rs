//! The search for secrets: what was masked once holds no token, card or key that a second look would find, as a text, as an
//! attribute, as a key and in JSON; and a record without a secret is kept as it came.
#![no_main]

use std::sync::{Arc, LazyLock};

use threadline_contract::registry::{base_layers, load};
use threadline_contract::rules::Rule;
use threadline_contract::score::Board;
use threadline_contract::{Contract, Guard, Policy};
use threadline_model::builder::{BatchBuilder, RecordLimits};
use threadline_model::columns::Batch;
use threadline_model::inspect::Inspector;
use threadline_model::record::{LogView, ResourceView, ScopeView};
use threadline_model::schema::{Layout, Table, verdict};
use threadline_model::value::{Value, write_str};

static CONTRACT: LazyLock<Arc<Contract>> = LazyLock::new(|| {
    let registry = load(&base_layers()).unwrap_or_else(|problems| panic!("{problems}"));
    Arc::new(Contract::new(registry, Policy::default()))
});

/// The body and the attributes of a record as they would be kept, and its verdict.
fn kept(body: Value<'_>, text: &str) -> (String, String, i64) {
    let mut builder =
        BatchBuilder::new(Arc::new(Layout::base(Table::Logs)), 1_700_000_000_000_000, RecordLimits::default());
    let mut guard = Guard::new(Arc::clone(&CONTRACT), Arc::new(Board::new()));
    guard.resource(&ResourceView::default(), &mut builder);
    guard.scope(&ScopeView::default(), &mut builder);
    let attributes = [("some.text", Value::Str(text)), (text, Value::Str("as a key"))];
    let log = LogView { body, attributes: &attributes, ..LogView::default() };
    guard.log(&log, &mut builder).expect("nothing is refused");
    let batch = builder.finish().expect("columns that fit together").expect("a row");
    let batch = Batch::new(&batch);
    let text = |column| batch.str(column).get(0).unwrap_or_default().to_owned();
    (text("body"), text("attrs"), batch.int("verdict").get(0).unwrap_or(0))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (once, _, bits) = kept(Value::Str(text), text);
    if bits & verdict::REDACTED == 0 {
        assert_eq!(once, text, "nothing was to be masked");
    }
    look_again(&once, Value::Str(&once));
    // The same text where JSON escapes it.
    let mut json = String::from("{\"k\":");
    write_str(&mut json, text);
    json.push('}');
    let (in_json, ..) = kept(Value::Json(&json), "");
    look_again(&in_json, Value::Json(&in_json));
});

/// What ends where something else begins may end elsewhere once there is a mask: user info, the value of a pair. All else
/// is found at the first look.
const SURE: i64 = (Rule::SecretJwt.bit() | Rule::SecretCard.bit() | Rule::SecretPrivateKey.bit()) as i64;

fn look_again(once: &str, value: Value<'_>) {
    let (twice, _, bits) = kept(value, "");
    assert_eq!(bits & SURE, 0, "{once:?}");
    if !once.contains("[REDACTED") {
        assert_eq!(twice, once, "without a mask there was nothing to hide");
    }
}
