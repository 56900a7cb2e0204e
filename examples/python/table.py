"""Reads a table that `serveflow features --labels` wrote: what all the trainers here begin with."""

import decimal
import re

import numpy as np
import pyarrow
import pyarrow.parquet

# The leading columns tell of the flow; behind them stand the features, in the order in which they
# are served.
KEYS = [
    "src", "src_port", "dst", "dst_port", "proto", "first_ts", "packets", "file", "label", "split",
]

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def in_order(labels):
    """The order of classes that ServeFlow has: as numbers if all labels are numbers, else as
    text."""
    if all(NUMBER.fullmatch(label) for label in labels):
        return sorted(labels, key=lambda label: (decimal.Decimal(label), label))
    return sorted(labels)


class Table:
    """Features and labels by split.

    `names` are the columns, `labels` the classes in the order of their numbers in `y`.
    """

    def __init__(self, path):
        table = pyarrow.parquet.read_table(path)
        self.names = [name for name in table.column_names if name not in KEYS]
        self.keys = table.select([name for name in table.column_names if name in KEYS])
        features = table.select(self.names)
        self.x = np.empty((table.num_rows, len(self.names)), np.float32)
        for at, column in enumerate(features.columns):
            self.x[:, at] = column.to_numpy()
        text = np.array(table["label"].to_pylist())
        self.split = np.array(table["split"].to_pylist())
        self.labels = in_order(set(text[text != ""]))
        numbers = {label: at for at, label in enumerate(self.labels)}
        self.y = np.array([numbers.get(label, -1) for label in text])

    def of(self, split):
        """Features and class numbers of the labelled flows of `train`, `val` or `test`."""
        own = (self.split == split) & (self.y >= 0)
        return self.x[own], self.y[own]

    def write_expected(self, path, probabilities):
        """The model's own probabilities of all rows, to which `serveflow bundle add --expect` holds
        its import.

        `probabilities` has a column for each label, in their order.
        """
        table = self.keys
        for at, label in enumerate(self.labels):
            column = np.ascontiguousarray(probabilities[:, at], np.float64)
            table = table.append_column(f"p_{label}", pyarrow.array(column))
        pyarrow.parquet.write_table(table, path)


def macro_f1(truth, answers, classes):
    """As `serveflow evaluate` has it: classes that are in neither count 0."""
    scores = []
    for one in range(classes):
        hit = np.sum((truth == one) & (answers == one))
        both = np.sum(truth == one) + np.sum(answers == one)
        scores.append(2 * hit / both if both else 0.0)
    return float(np.mean(scores))
