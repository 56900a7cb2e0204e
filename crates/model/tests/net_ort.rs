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
use serveflow_model::net::{Net, use_onnxruntime};
use std::path::PathBuf;

fn library() -> PathBuf {
    let named = std::env::var_os("SERVEFLOW_ONNXRUNTIME");
    named.expect("SERVEFLOW_ONNXRUNTIME names the library of ONNX Runtime").into()
}

fn prepare() {
    use_onnxruntime(&library()).unwrap();
}

#[test]
fn one_library_is_used_and_no_other() {
    prepare();
    prepare();
    let net = Net::load(&onnx::mlp(-1), &Binding::bits(40).unwrap()).unwrap();
    assert!(format!("{net:?}").contains("OnnxRuntime"));
    let other = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert!(use_onnxruntime(&other).unwrap_err().contains("named before"));
}
