//! What a bundle is loaded with belongs to it alone: two in one process, each its own way.
#![allow(clippy::unwrap_used)]

#[path = "common/bundles.rs"]
mod bundles;

use bundles::{Files, put, scratch, valid};
use serveflow_core::lane::{Model, ScoreError};
use serveflow_core::rows::{Rows, Scores};
use serveflow_model::bundle::Bundle;
use serveflow_model::remote::{ConnectError, InferenceRequest, RemoteTransport};
use serveflow_model::{LoadOptions, StageLanes};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A server that is sure of one class.
#[derive(Debug)]
struct Server(usize);

impl RemoteTransport for Server {
    fn infer(&self, request: &InferenceRequest<'_>, scores: &mut Scores) -> Result<(), ScoreError> {
        scores.reset(request.rows, request.spec.classes);
        (0..request.rows).for_each(|row| scores.row_mut(row)[self.0] = 1.0);
        Ok(())
    }
}

fn connected(class: usize) -> LoadOptions {
    LoadOptions::default().with_remote(move |_| Ok(Arc::new(Server(class))))
}

/// A bundle whose last stage is remote.
fn remote(name: &str) -> PathBuf {
    let mut files: Files = valid();
    let plan = String::from_utf8(files[0].1.clone()).unwrap();
    let of = "file = \"models/b.json\"\nformat = \"forest\"";
    let other = plan.replacen(of, "file = \"models/b.toml\"\nformat = \"remote\"", 1);
    assert_ne!(other, plan);
    files[0].1 = other.into_bytes();
    let spec = b"model = \"cnn\"\ninput = \"X\"\nclasses = 3\n".to_vec();
    files[2] = ("models/b.toml".to_owned(), spec);
    let dir = scratch(name);
    put(&dir, &files);
    dir
}

/// The answer for a row of nothing.
fn answer(model: &dyn Model) -> Result<Vec<f32>, String> {
    let mut rows = Rows::with_capacity(model.shape(), 1);
    rows.push();
    let mut scores = Scores::default();
    model.score(&rows, &mut scores).map_err(|error| error.message)?;
    Ok(scores.row(0).to_vec())
}

#[test]
fn two_bundles_have_servers_of_their_own() {
    let dir = remote("two-servers");
    let open = |options: &LoadOptions| Bundle::open(&dir, options).unwrap();
    let bundles = [open(&connected(0)), open(&connected(2)), open(&LoadOptions::default())];
    // Whoever was opened last changes nothing for those before.
    for _ in 0..2 {
        let answers = [0, 1, 2].map(|at: usize| answer(bundles[at].models[1].as_ref()));
        assert_eq!(answers[0], Ok(vec![1.0, 0.0, 0.0]));
        assert_eq!(answers[1], Ok(vec![0.0, 0.0, 1.0]));
        let message = "model `cnn` is remote, and no endpoints are configured";
        assert_eq!(answers[2], Err(message.to_owned()));
    }
}

#[test]
fn a_connector_that_finds_no_way_refuses_its_own_bundle() {
    let dir = remote("no-way");
    let message = "no server is named";
    let lost =
        LoadOptions::default().with_remote(|_| Err(ConnectError { message: message.to_owned() }));
    let error = Bundle::open(&dir, &lost).unwrap_err().to_string();
    assert!(error.contains("models/b.toml") && error.ends_with(message), "{error}");
    assert!(Bundle::open(&dir, &connected(1)).is_ok());
}

#[test]
fn a_clock_is_read_for_the_bundle_that_has_it_and_changes_no_score() {
    static READS: AtomicU64 = AtomicU64::new(0);
    let dir = scratch("clock");
    put(&dir, &valid());
    let timed = LoadOptions::default().with_clock(|| READS.fetch_add(1, Ordering::Relaxed));
    let plain = Bundle::open(&dir, &LoadOptions::default()).unwrap();
    assert_eq!(READS.load(Ordering::Relaxed), 0);
    let tuned = Bundle::open(&dir, &timed).unwrap();
    assert!(READS.load(Ordering::Relaxed) > 0);
    for (plain, tuned) in plain.models.iter().zip(&tuned.models) {
        assert_eq!(answer(plain.as_ref()), answer(tuned.as_ref()));
    }
}

#[test]
fn stages_are_placed_where_the_options_say_and_else_where_the_plan_says() {
    let dir = scratch("lanes");
    put(&dir, &valid());
    let open = |lanes| Bundle::open(&dir, &LoadOptions::default().with_lanes(lanes));
    let lanes_of = |lanes| {
        let bundle = open(lanes).unwrap();
        bundle.cascade.stages().iter().map(|stage| stage.lane).collect::<Vec<_>>()
    };
    assert_eq!(lanes_of(StageLanes::default()), [0, 0]);
    assert_eq!(lanes_of(StageLanes::all_in(1)), [1, 1]);
    assert_eq!(lanes_of(StageLanes::all_in(1).with_stage("slow", Some(2))), [1, 2]);
    assert_eq!(lanes_of(StageLanes::all_in(1).with_stage("fast", None)), [0, 1]);
    let error = open(StageLanes::default().with_stage("lazy", Some(1))).unwrap_err().to_string();
    assert!(error.contains("plan.toml"), "{error}");
    let expected = "lanes: expected a stage of the bundle: fast, slow, found `lazy`";
    assert!(error.ends_with(expected), "{error}");
}
