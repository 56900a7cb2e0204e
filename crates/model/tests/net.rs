//! Nets, by the runtime that is always there.
#![allow(clippy::unwrap_used)]

#[path = "common/net_sizes.rs"]
mod net_sizes;
#[path = "common/net_suite.rs"]
mod net_suite;
#[path = "common/onnx.rs"]
mod onnx;

use serveflow_model::net::OnnxRuntime;

fn library() -> Option<OnnxRuntime> {
    None
}

/// No library is named in this process, and a wrong one is refused in words.
#[test]
fn a_library_that_is_none_is_refused() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = OnnxRuntime::open(&path).unwrap_err().to_string();
    assert!(error.contains("Cargo.toml") && error.contains("expected"), "{error}");
    assert_eq!(error.contains("feature `ort`"), !cfg!(feature = "ort"), "{error}");
}
