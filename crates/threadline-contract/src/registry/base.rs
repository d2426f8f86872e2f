//! The base contract, built in.

use std::borrow::Cow;

use super::{File, Layer};

macro_rules! layer {
    ($($path:literal),*) => {
        Layer { files: vec![$(File {
            path: concat!("contract/", $path).to_owned(),
            text: Cow::Borrowed(include_str!(concat!("../../../../contract/", $path))),
        }),*] }
    };
}

/// The layers of the base contract, from below.
pub fn base_layers() -> Vec<Layer> {
    vec![
        layer!(
            "otel/registry_manifest.yaml",
            "otel/attributes.yaml",
            "otel/deprecated.yaml",
            "otel/events.yaml"
        ),
        layer!(
            "threadline/registry_manifest.yaml",
            "threadline/attributes.yaml",
            "threadline/events.yaml",
            "threadline/resource.yaml"
        ),
    ]
}
