//! Trains and scores on a matrix that `scripts/truth_trees.py` wrote, to be held against Python.
//!
//! `truth_trees DIR tree|forest|boost [KEY=VALUE ...]` reads `DIR/{train,test}.{words,numbers,labels}`
//! (little-endian `u32`, `f32`, `u16`), `DIR/shape.txt` and `DIR/columns.txt`, writes the test rows'
//! class probabilities to `DIR/scores.f32` and prints what each step took in seconds.

use serveflow_core::rows::{BitAt, Column, Place, RowShape, Rows, Scores};
use serveflow_model::forest::{BoundForest, Forest};
use serveflow_train::trees::{
    BitMatrix, BoostParams, ForestParams, TrainSet, TreeParams, train_boosted, train_forest,
    train_tree,
};
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, trainer, options @ ..] = args.as_slice() else {
        return Err("usage: truth_trees DIR tree|forest|boost [KEY=VALUE ...]".into());
    };
    let dir = Path::new(dir);
    let options: HashMap<&str, &str> = options.iter().filter_map(|o| o.split_once('=')).collect();
    let shape = numbers::<usize>(&std::fs::read_to_string(dir.join("shape.txt"))?)?;
    let (shape, classes) = (RowShape { words: shape[0], numbers: shape[1] }, shape[2]);
    let columns = columns(&std::fs::read_to_string(dir.join("columns.txt"))?)?;
    let (train, labels) = rows(dir, "train", shape)?;
    let (test, _) = rows(dir, "test", shape)?;

    let start = Instant::now();
    let matrix = BitMatrix::new(&train, &columns, option(&options, "max_cuts", 255)?)?;
    println!("planes {}", matrix.tests().len());
    let set = TrainSet::new(matrix, labels, Vec::new(), classes)?;
    println!("matrix_s {:.3}", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let forest = fit(trainer, &set, &options)?;
    println!("train_s {:.3}", start.elapsed().as_secs_f64());
    println!("trees {}", forest.trees().len());
    println!("leaves {}", forest.trees().iter().map(|t| t.nodes.len() + 1).sum::<usize>());

    let bound = BoundForest::new(&forest);
    let mut scores = Scores::default();
    bound.score(&test, &mut scores);
    let start = Instant::now();
    bound.score(&test, &mut scores);
    let each = start.elapsed().as_secs_f64() * 1e6 / test.len() as f64;
    println!("score_batch_us_per_row {each:.3}");
    let out: Vec<u8> = (0..test.len())
        .flat_map(|row| scores.row(row).iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>())
        .collect();
    std::fs::write(dir.join("scores.f32"), out)?;
    let mut one = Rows::with_capacity(shape, 1);
    let start = Instant::now();
    for row in 0..test.len() {
        one.clear();
        one.push_copy(&test, row);
        bound.score(&one, &mut scores);
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / test.len() as f64;
    println!("score_one_us_per_row {each:.3}");
    Ok(())
}

fn fit(trainer: &str, set: &TrainSet, options: &HashMap<&str, &str>) -> Result<Forest> {
    let (seed, threads) = (option(options, "seed", 0)?, option(options, "threads", 1)?);
    Ok(match trainer {
        "tree" => train_tree(set, &TreeParams::default())?,
        "forest" => {
            let trees = option(options, "trees", 100)?;
            let min_leaf = option(options, "min_leaf", 1)?;
            let tree = TreeParams { min_leaf, ..ForestParams::default().tree };
            let params = ForestParams { trees, tree, seed, threads, ..ForestParams::default() };
            train_forest(set, &params, &mut |_| {})?
        }
        "boost" => {
            let defaults = BoostParams::default();
            let params = BoostParams {
                rounds: option(options, "rounds", defaults.rounds)?,
                max_leaves: option(options, "max_leaves", defaults.max_leaves)?,
                gradient_bits: option(options, "gradient_bits", defaults.gradient_bits)?,
                hessian_bits: option(options, "hessian_bits", defaults.hessian_bits)?,
                seed,
                threads,
                ..defaults
            };
            train_boosted(set, None, &params, &mut |_| {})?.forest
        }
        other => return Err(format!("no trainer {other:?}").into()),
    })
}

fn option<T: FromStr>(options: &HashMap<&str, &str>, key: &str, usual: T) -> Result<T>
where
    T::Err: Error + 'static,
{
    Ok(options.get(key).map_or(Ok(usual), |value| value.parse())?)
}

fn numbers<T: FromStr>(line: &str) -> Result<Vec<T>>
where
    T::Err: Error + 'static,
{
    Ok(line.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}

/// Lines `bit WORD BIT PRESENCE_WORD PRESENCE_BIT` or `number INDEX`.
fn columns(text: &str) -> Result<Vec<Column>> {
    let parse = |line: &str| {
        let (kind, places) = line.split_once(' ').ok_or("a column has a kind and places")?;
        let places = numbers::<u32>(places)?;
        let bit = |at: usize| BitAt { word: places[at], bit: places[at + 1] as u8 };
        let place = match kind {
            "bit" => Place::Bit { value: bit(0), presence: bit(2) },
            _ => Place::Number(places[0]),
        };
        Ok(Column { name: line.into(), place })
    };
    text.lines().map(parse).collect()
}

fn rows(dir: &Path, part: &str, shape: RowShape) -> Result<(Rows, Vec<u16>)> {
    let read = |what: &str| std::fs::read(dir.join(format!("{part}.{what}")));
    let (words, numbers, labels) = (read("words")?, read("numbers")?, read("labels")?);
    let four = |bytes: &[u8]| bytes.try_into().unwrap_or([0; 4]);
    let labels: Vec<u16> =
        labels.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let mut rows = Rows::with_capacity(shape, labels.len());
    for row in 0..labels.len() {
        let (to_words, to_numbers) = rows.push();
        let from = words[row * shape.words * 4..].chunks_exact(4);
        to_words.iter_mut().zip(from).for_each(|(to, b)| *to = u32::from_le_bytes(four(b)));
        let from = numbers[row * shape.numbers * 4..].chunks_exact(4);
        to_numbers.iter_mut().zip(from).for_each(|(to, b)| *to = f32::from_le_bytes(four(b)));
    }
    Ok((rows, labels))
}
