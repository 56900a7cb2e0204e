//! What scoring a flow costs: a made-up boosted forest of 20 rounds for 11 classes, 15 leaves a
//! tree, on rows of 1,024 noisy bits, in batches of several sizes.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serveflow_core::rows::{BitAt, RowShape, Rows, Scores};
use serveflow_model::forest::{BoundForest, Forest, ForestKind, Node, Test, Tree};
use std::hint::black_box;
use std::time::{Duration, Instant};

const CLASSES: usize = 11;
const ROUNDS: usize = 20;
const NODES: usize = 14;
const SHAPE: RowShape = RowShape { words: 32, numbers: 0 };
/// Rows that are scored in turn, so that no branch is learned by heart.
const ROWS: usize = 4096;

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % sides
    }
}

/// A tree that grew leaf by leaf at random places.
fn tree(dice: &mut Dice) -> Tree {
    let mut open = Vec::new();
    let mut tree = Tree::default();
    for n in 0..NODES {
        if n > 0 {
            let (parent, right) = open.swap_remove(dice.roll(open.len()));
            hang(&mut tree, parent, right, n as i32);
        }
        let at = BitAt { word: dice.roll(SHAPE.words) as u32, bit: dice.roll(32) as u8 };
        tree.nodes.push(Node { test: Test::Bit(at), left: 0, right: 0 });
        open.extend([(n, false), (n, true)]);
    }
    for (leaf, (parent, right)) in open.into_iter().enumerate() {
        hang(&mut tree, parent, right, !(leaf as i32));
    }
    tree.leaves = (0..=NODES).map(|_| dice.roll(1000) as f32 / 2000.0 - 0.25).collect();
    tree
}

fn hang(tree: &mut Tree, parent: usize, right: bool, child: i32) {
    let node = &mut tree.nodes[parent];
    *(if right { &mut node.right } else { &mut node.left }) = child;
}

fn score(c: &mut Criterion) {
    let mut dice = Dice(0x5eed);
    let trees = (0..ROUNDS * CLASSES).map(|_| tree(&mut dice)).collect();
    let kind = ForestKind::softmax(vec![0.0; CLASSES]);
    let forest = Forest::new(SHAPE, CLASSES, kind, trees).expect("it is made to be right");
    let mut bound = BoundForest::new(&forest);
    let started = Instant::now();
    bound.tune(&mut || started.elapsed().as_nanos() as u64);
    let mut group = c.benchmark_group("score");
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    for batch in [1, 16, 64, 1024] {
        let batches: Vec<Rows> = (0..ROWS / batch)
            .map(|_| {
                let mut rows = Rows::with_capacity(SHAPE, batch);
                for _ in 0..batch {
                    let (words, _) = rows.push();
                    words.iter_mut().for_each(|word| *word = dice.roll(1 << 32) as u32);
                }
                rows
            })
            .collect();
        let mut scores = Scores::default();
        let mut turn = batches.iter().cycle();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            bencher.iter(|| {
                let rows = turn.next().expect("a cycle has no end");
                bound.score(black_box(rows), &mut scores);
                black_box(scores.row(0)[0])
            });
        });
    }
    group.finish();
}

criterion_group!(benches, score);
criterion_main!(benches);
