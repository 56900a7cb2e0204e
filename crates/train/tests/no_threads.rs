//! Training where the system has no threads to give: slower, and the same models.
#![allow(clippy::unwrap_used)]

use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows};
use serveflow_train::trees::{
    BitMatrix, BoostParams, ForestParams, MAX_CUTS, TrainSet, train_boosted, train_forest,
};
use std::process::Command;

/// Says to a process of this test that it is the one without threads.
const ALONE: &str = "SERVEFLOW_TEST_WITHOUT_THREADS";

/// Rows of one header word, of three classes that its bits tell.
fn set() -> TrainSet {
    let place = |at: u32| {
        let at_word = |word: u32| BitAt { word, bit: if word == 0 { at as u8 } else { 0 } };
        Place::Bit { value: at_word(0), presence: at_word(1) }
    };
    let column = |at: u32| Column { name: format!("bit{at}"), place: place(at) };
    let columns: Vec<Column> = (0..8).map(column).collect();
    let mut rows = Rows::with_capacity(RowShape { words: 2, numbers: 0 }, 240);
    let mut labels = Vec::new();
    for row in 0..240_u32 {
        let (words, _) = rows.push();
        words[0] = row.wrapping_mul(0x9e37_79b9);
        words[1] = 1;
        labels.push((row % 3) as u16);
    }
    let matrix = BitMatrix::new(&rows, &columns, MAX_CUTS).unwrap();
    TrainSet::new(matrix, labels, vec![], 3).unwrap()
}

/// The models, in letters, of so many threads.
fn models(threads: usize) -> [String; 2] {
    let set = set();
    let params = ForestParams { trees: 5, threads, ..ForestParams::default() };
    let forest = train_forest(&set, &params, &mut |_| {}).unwrap();
    let params = BoostParams { rounds: 3, threads, ..BoostParams::default() };
    let boosted = train_boosted(&set, None, &params, &mut |_| {}).unwrap();
    [format!("{forest:?}"), format!("{:?}", boosted.forest)]
}

/// A stack that no address space holds makes every start of a thread fail, for a process of its
/// own.
#[test]
fn models_are_the_same_where_no_thread_starts() {
    if std::env::var_os(ALONE).is_some() {
        assert!(std::thread::Builder::new().spawn(|| ()).is_err(), "there are no threads");
        assert_eq!(models(4), models(1));
        return;
    }
    let with_threads = models(4);
    assert_eq!(with_threads, models(1));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "models_are_the_same_where_no_thread_starts", "--nocapture"])
        .env(ALONE, "1")
        .env("RUST_MIN_STACK", (1_u64 << 60).to_string())
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}
