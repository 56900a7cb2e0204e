#!/usr/bin/env python3
"""Holds the tree trainers against scikit-learn and LightGBM on the same columns.

Needs numpy, scikit-learn, lightgbm, and zstandard for --models. From the repository root:

    python scripts/truth_trees.py                         # synthetic data, three seeds
    python scripts/truth_trees.py --models DIR            # also the bits in DIR/test_{X,y}_1024.*.zst
    python scripts/truth_trees.py --rows 50000 --only boost --seeds 1

Both sides get the same rows: nPrint-like bits with presence, a few heavy-tailed numbers, classes
down to a fraction of a percent. Printed are macro-F1 and the seconds that training took on one
thread, per seed and on average: processor time, for both sides with building the binned matrix,
and for ours with reading and scoring too.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent


def synthetic(seed, rows, classes, fields, numbers):
    """Words of 16-bit fields: some constant, some noise, some leaning on the class."""
    rng = np.random.default_rng(seed)
    share = 0.72 ** np.arange(classes)
    share = np.maximum(share / share.sum(), 0.004)
    y = rng.choice(classes, rows, p=share / share.sum())
    bits = np.zeros((rows, fields * 16), np.uint8)
    cluster = y * 4 + rng.integers(0, 4, rows)
    for f in range(fields):
        kind = rng.random()
        if kind < 0.3:
            value = np.full(rows, rng.integers(0, 65536))
        elif kind < 0.55:
            value = rng.integers(0, 65536, rows)
        else:
            table = rng.integers(0, 65536, classes * 4)
            noise = rng.random(rows) < 0.75
            value = np.where(noise, rng.integers(0, 65536, rows), table[cluster])
        bits[:, f * 16 : f * 16 + 16] = value[:, None] >> np.arange(15, -1, -1) & 1
    words = np.packbits(bits, axis=1).view(">u4").astype("<u4")
    # The second half of the words is absent in some rows, more often in some classes.
    absent = rng.random(rows) < 0.1 + 0.5 * rng.random(classes)[y]
    words[np.ix_(absent, np.arange(words.shape[1] // 2, words.shape[1]))] = 0
    presence = np.where(absent, 1, 3).astype("<u4")
    scale = rng.normal(3, 1, (numbers, classes))[:, y].T
    values = np.exp(scale + rng.normal(0, 1.5, (rows, numbers))).astype("<f4")
    values[:, : numbers // 2] = np.floor(values[:, : numbers // 2])
    flip = rng.random(rows) < 0.03
    y[flip] = rng.choice(classes, flip.sum(), p=share / share.sum())
    return np.hstack([words, presence[:, None]]), values, y, words.shape[1]


def stored(folder):
    """The bits of a folder of test matrices: all present."""
    import zstandard

    def read(name):
        with open(pathlib.Path(folder) / name, "rb") as file:
            return zstandard.ZstdDecompressor().stream_reader(file).read()

    x = np.frombuffer(read("test_X_1024.bits.bin.zst"), ">u4").reshape(-1, 32).astype("<u4")
    y = np.frombuffer(read("test_y_1024.i32.bin.zst"), "<i4")
    presence = np.full((len(x), 1), 3, "<u4")
    return np.hstack([x, presence]), np.zeros((len(x), 0), "<f4"), y, 32


def floats(words, numbers, header):
    """The matrix that Python sees: -1 where a word is absent, else its bits, then the numbers."""
    bits = (words[:, :header, None] >> np.arange(31, -1, -1, dtype=np.uint32) & 1).astype(np.float32)
    half = (np.arange(header) >= header // 2).astype(np.uint32)
    there = words[:, header, None] >> half & 1
    bits[there == 0] = -1
    return np.hstack([bits.reshape(len(words), -1), numbers])


def write(folder, name, words, numbers, y):
    words.astype("<u4").tofile(folder / f"{name}.words")
    numbers.astype("<f4").tofile(folder / f"{name}.numbers")
    y.astype("<u2").tofile(folder / f"{name}.labels")


def ours(example, folder, trainer, classes, options):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = subprocess.run([example, folder, trainer, *options], check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    facts = dict(line.split() for line in out.stdout.splitlines())
    scores = np.fromfile(folder / "scores.f32", "<f4").reshape(-1, classes)
    return scores, seconds, facts


def theirs(trainer, x, y, seed, args):
    start = time.process_time()
    if trainer == "boost":
        import lightgbm

        params = dict(objective="multiclass", num_class=int(y.max()) + 1, num_threads=1, seed=seed,
                      verbosity=-1, num_leaves=args.max_leaves, learning_rate=0.1)
        model = lightgbm.train(params, lightgbm.Dataset(x, y), args.rounds)
        seconds = time.process_time() - start
        return model.predict, seconds
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    if trainer == "tree":
        model = DecisionTreeClassifier(max_depth=12, random_state=seed)
    else:
        model = RandomForestClassifier(args.trees, random_state=seed, n_jobs=1)
    model.fit(x, y)
    return model.predict_proba, time.process_time() - start


def compare(label, data, args, example, seed):
    from sklearn.metrics import f1_score, log_loss

    words, numbers, y, header = data
    order = np.random.default_rng(seed).permutation(len(y))
    cut = len(y) * 3000 // 4096
    train, test = order[:cut], order[cut:]
    classes = int(y.max()) + 1
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write(folder, "train", words[train], numbers[train], y[train])
        write(folder, "test", words[test], numbers[test], y[test])
        (folder / "shape.txt").write_text(f"{words.shape[1]} {numbers.shape[1]} {classes}\n")
        lines = [f"bit {w} {31 - b} {header} {int(w >= header // 2)}" for w in range(header) for b in range(32)]
        lines += [f"number {i}" for i in range(numbers.shape[1])]
        (folder / "columns.txt").write_text("\n".join(lines) + "\n")
        x = floats(words, numbers, header)
        for trainer in args.only or ["tree", "forest", "boost"]:
            options = [f"seed={seed}", f"threads={args.threads}", f"trees={args.trees}", f"rounds={args.rounds}",
                       f"max_leaves={args.max_leaves}", *args.option]
            mine, mine_s, facts = ours(example, folder, trainer, classes, options)
            predict, other_s = theirs(trainer, x[train], y[train], seed, args)
            other = predict(x[test])
            f1 = [f1_score(y[test], p.argmax(1), average="macro") for p in (mine, other)]
            loss = [log_loss(y[test], p.astype(float), labels=range(classes)) for p in (mine, other)]
            print(f"{label:10} seed {seed} {trainer:6} macro-F1 ours {f1[0]:.4f} theirs {f1[1]:.4f}  "
                  f"log-loss {loss[0]:.4f} {loss[1]:.4f}  cpu s {mine_s:.2f} {other_s:.2f} (our train {facts['train_s']})  "
                  f"planes {facts['planes']} leaves {facts['leaves']}  us/row one {facts['score_one_us_per_row']} "
                  f"batch {facts['score_batch_us_per_row']}", flush=True)
            results[trainer] = (*f1, mine_s, other_s)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", help="folder with test_X_1024.bits.bin.zst and test_y_1024.i32.bin.zst")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8192, help="rows of the synthetic data, 0 for none")
    parser.add_argument("--fields", type=int, default=64, help="16-bit fields of the synthetic data")
    parser.add_argument("--numbers", type=int, default=8)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--max-leaves", type=int, default=31)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="threads of our side")
    parser.add_argument("--only", nargs="*", choices=["tree", "forest", "boost"])
    parser.add_argument("--option", nargs="*", default=[], help="more KEY=VALUE for our side")
    args = parser.parse_args()
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "serveflow-train", "--example", "truth_trees"],
                   cwd=ROOT, check=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    example = target / "release/examples/truth_trees"
    sums = {}
    for seed in range(args.seeds):
        sets = []
        if args.rows:
            sets.append(("synthetic", synthetic(seed, args.rows, args.classes, args.fields, args.numbers)))
        if args.models:
            sets.append(("stored", stored(args.models)))
        for label, data in sets:
            for trainer, result in compare(label, data, args, example, seed).items():
                sums.setdefault((label, trainer), []).append(result)
    for (label, trainer), results in sums.items():
        f1, other, mine_s, other_s = np.mean(results, axis=0)
        print(f"mean {label} {trainer}: macro-F1 {f1:.4f} vs {other:.4f} ({f1 - other:+.4f}), "
              f"cpu {mine_s:.2f} s vs {other_s:.2f} s")


if __name__ == "__main__":
    main()
