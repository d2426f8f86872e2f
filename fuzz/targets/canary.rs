//! Panics on one input of sixteen million. A run that does not find it has no coverage guidance, or does not notice
//! panics; then the other targets' silence means nothing.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let [b't', b'l', b'!', ..] = bytes {
        panic!("the canary sings");
    }
});
