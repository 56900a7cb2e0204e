//! A small bundle made by hand, as files that a test may spoil.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, Features, MaskSet};
use serveflow_core::rows::{BitAt, RowShape};
use serveflow_model::bundle::{Bundle, sha256};
use serveflow_model::forest::{Forest, ForestKind, Node, Test, Tree};
use std::path::{Path, PathBuf};

/// Files by name: the plan, then the models.
pub type Files = Vec<(String, Vec<u8>)>;

/// An empty directory of a test.
pub fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundle").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

pub fn labels() -> [&'static str; 3] {
    ["a", "b", "c"]
}

const PLAN: &str = r#"format = "serveflow-plan/1"
task = "a test"
labels = ["a", "b", "c"]

[flows]
idle_ms = 120000
active_ms = 1800000
linger_ms = 5000

[[stages]]
name = "fast"
packets = 1
wait_ms = 50
features = ["header_bits", "packet_series"]
headers = ["ipv4", "tcp", "udp"]
masks = ["addresses", "ports"]
lane = "inline"

[stages.model]
file = "models/a.json"
format = "forest"
kind = "boosted trees"

[stages.gate]
rule = "margin"
threshold = 0.25

[[stages]]
name = "slow"
packets = 2
wait_ms = 50
features = ["header_bits", "packet_series"]
masks = []

[stages.model]
file = "models/b.json"
format = "forest"
"#;

/// The shape of a stage's rows.
pub fn shape(packets: u16) -> RowShape {
    let encoders = ["header_bits", "packet_series"].map(str::to_owned).to_vec();
    let masks = MaskSet::default();
    let spec = FeatureSpec { encoders, packets, masks, layout: HeaderLayout::default() };
    Features::new(&spec).unwrap().shape()
}

fn boosted(shape: RowShape) -> Forest {
    let node = Node { test: Test::Bit(BitAt { word: 0, bit: 3 }), left: -1, right: -2 };
    let tree = |leaf: f32| Tree { nodes: vec![node], leaves: vec![leaf, -leaf] };
    let base = vec![0.5, 0.25, 0.125];
    Forest::new(shape, 3, ForestKind::softmax(base), [1.0, 2.0, 0.1].map(tree).to_vec()).unwrap()
}

fn averaged(shape: RowShape) -> Forest {
    let test = Test::above(1, 40.5);
    let tree = Tree {
        nodes: vec![Node { test, left: -1, right: -2 }],
        leaves: vec![0.5, 0.25, 0.25, 0.0, 0.0, 1.0],
    };
    Forest::new(shape, 3, ForestKind::Averaged, vec![tree]).unwrap()
}

/// The files of a bundle that loads, but for its hash list.
pub fn valid() -> Files {
    vec![
        ("plan.toml".to_owned(), PLAN.as_bytes().to_vec()),
        ("models/a.json".to_owned(), boosted(shape(1)).to_json()),
        ("models/b.json".to_owned(), averaged(shape(2)).to_json()),
    ]
}

pub fn plan_text(files: &Files) -> String {
    String::from_utf8(files[0].1.clone()).unwrap()
}

/// Writes files and their hash list, sorted by name.
pub fn put(dir: &Path, files: &Files) {
    let mut sums: Vec<String> = Vec::new();
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        sums.push(format!("{}  {name}\n", sha256(bytes)));
    }
    sums.rotate_left(1);
    std::fs::write(dir.join("SHA256SUMS"), sums.concat()).unwrap();
}

/// Loads a bundle; a refusal as its sentence.
pub fn load(dir: &Path) -> Result<Bundle, String> {
    Bundle::load(dir).map_err(|error| error.to_string())
}
