//! The search language: whatever the text, a tree that prints back to itself, or an error that points into the text.
#![no_main]

// The parser needs only the standard library; its crate would bring DataFusion.
#[path = "../../crates/threadline-query/src/lang/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the target uses only a part of the module")]
mod lang;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match lang::parse(text) {
        Ok(tree) => {
            let canonical = tree.to_string();
            match lang::parse(&canonical) {
                Ok(again) => assert_eq!(tree, again, "{canonical}"),
                // The canonical text may be longer than a search may be.
                Err(error) => assert!(canonical.len() > lang::TEXT_BYTES_MAX, "{canonical:?}: {error}"),
            }
        }
        Err(error) => {
            assert!(error.at <= text.len(), "{error}");
            assert!(!error.message.is_empty());
        }
    }
});
