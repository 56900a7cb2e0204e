"""What scikit-learn and LightGBM make of the same columns: the outside truth.

Every seed gives another draw of what a trainer leaves to chance: scikit-learn draws itself;
LightGBM without sampling draws nothing but takes the first of equal columns, so each seed gives it
the columns in another order.
"""

import time
import warnings

import numpy as np


def train(kind, folder, seed, classes):
    """Trains a model on one thread; its class probabilities on the test rows, and the seconds."""
    warnings.filterwarnings("ignore")
    x = {
        split: np.load(folder / f"{split}.x.npy", mmap_mode="r")
        for split in ("train", "val", "test")
    }
    y = {split: np.load(folder / f"{split}.y.npy") for split in x}
    start = time.process_time()
    if kind == "boosted":
        scores, seconds = boosted(x, y, seed, classes)
    else:
        model = averaged(kind, seed).fit(x["train"], y["train"])
        seconds = time.process_time() - start
        scores = np.zeros((len(y["test"]), classes))
        scores[:, model.classes_] = model.predict_proba(x["test"])
    return scores, seconds


def averaged(kind, seed):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    if kind == "tree":
        return DecisionTreeClassifier(max_depth=12, random_state=seed)
    return RandomForestClassifier(100, random_state=seed, n_jobs=1)


def boosted(x, y, seed, classes):
    import lightgbm

    start = time.process_time()
    order = np.random.default_rng(seed).permutation(x["train"].shape[1])
    fit = {split: np.ascontiguousarray(rows[:, order]) for split, rows in x.items()}
    params = dict(
        objective="multiclass", num_class=classes, num_leaves=31, learning_rate=0.1, lambda_l2=1,
        min_data_in_leaf=1, num_threads=1, verbosity=-1, seed=seed,
    )
    data = lightgbm.Dataset(fit["train"], y["train"])
    val = lightgbm.Dataset(fit["val"], y["val"], reference=data)
    model = lightgbm.train(params, data, 100, valid_sets=[val],
                           callbacks=[lightgbm.early_stopping(20, verbose=False)])
    seconds = time.process_time() - start
    return model.predict(fit["test"]), seconds
