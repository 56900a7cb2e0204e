//! Nets, by ONNX Runtime: `SERVEFLOW_ONNXRUNTIME` names its library, such as the one in the PyPI
//! package `onnxruntime`.
#![cfg(feature = "ort")]
#![allow(clippy::unwrap_used)]

#[path = "common/net_sizes.rs"]
mod net_sizes;
#[path = "common/net_suite.rs"]
mod net_suite;
#[path = "common/onnx.rs"]
mod onnx;

use serveflow_model::binding::Binding;
use serveflow_model::net::{Net, OnnxRuntime};
use std::path::PathBuf;

fn named() -> PathBuf {
    let named = std::env::var_os("SERVEFLOW_ONNXRUNTIME");
    named.expect("SERVEFLOW_ONNXRUNTIME names the library of ONNX Runtime").into()
}

fn library() -> Option<OnnxRuntime> {
    Some(OnnxRuntime::open(&named()).unwrap())
}

#[test]
fn one_library_is_used_and_no_other() {
    let (library, columns) = (library(), Binding::bits(40).unwrap());
    let open = |library| format!("{:?}", Net::load(&onnx::mlp(-1), &columns, library).unwrap());
    // Who loads a net says what scores it: two runtimes work side by side.
    assert!(open(library.as_ref()).contains("OnnxRuntime"));
    assert!(!open(None).contains("OnnxRuntime"));
    assert!(open(self::library().as_ref()).contains("OnnxRuntime"));
    let other = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = OnnxRuntime::open(&other).unwrap_err().to_string();
    assert!(error.contains("named before"), "{error}");
}
