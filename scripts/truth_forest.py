"""Scores the models of a bundle in Python, on the columns that `serveflow features` wrote.

A second, plain reading of the model file: what it says about words, bits and numbers is looked up
among the table's columns by name. So a model's answers here and in `serveflow run` agree only if
the table holds what the model was served.
"""

import json
import re

import numpy as np

PACKET = re.compile(r"pkt(\d+)_(.*)")


class Columns:
    """Where a row's bits and numbers stand among a table's feature columns.

    `names` are the feature columns; `bits` are those of a packet without any mask, 32 a word, which
    tell what is left out in between. Behind a packet's words are the words of their presence.
    """

    def __init__(self, names, bits):
        known = set(bits)
        self.place, self.numbers = {}, []
        for column, name in enumerate(names):
            found = PACKET.fullmatch(name)
            packet, field = (int(found[1]) - 1, found[2]) if found else (0, name)
            if field in known:
                self.place[packet, field] = column
            else:
                self.numbers.append(column)
        self.bits = bits
        self.words = len(bits) // 32
        self.stride = self.words + -(-self.words // 32)

    def bit(self, test):
        """A bit test as (column, threshold): the row passes when the column is greater."""
        packet, word = divmod(test >> 5, self.stride)
        if word < self.words:
            return self.place[packet, self.bits[word * 32 + 31 - (test & 31)]], 0.5
        # Presence: any column of the word tells, since they are absent together.
        word = (word - self.words) * 32 + 31 - (test & 31)
        shown = (self.place.get((packet, name)) for name in self.bits[word * 32 : word * 32 + 32])
        return next(column for column in shown if column is not None), -0.5


def walk(tree, columns, x):
    """The leaf that each row ends in."""
    thresholds = iter(tree["thresholds"])
    tests = [
        columns.bit(t) if t >= 0 else (columns.numbers[~t], next(thresholds)) for t in tree["tests"]
    ]
    column = np.array([test[0] for test in tests], np.int64)
    threshold = np.array([test[1] for test in tests], np.float32)
    left, right = np.array(tree["left"], np.int64), np.array(tree["right"], np.int64)
    state = np.full(len(x), 0 if tests else -1, np.int64)
    while len(active := np.flatnonzero(state >= 0)):
        node = state[active]
        passes = x[active, column[node]] > threshold[node]
        state[active] = np.where(passes, right[node], left[node])
    return ~state


def score(path, columns, x):
    """Class probabilities of the rows of `x` by the model file at `path`."""
    model = json.loads(path.read_text())
    classes = model["classes"]
    boosted = model["kind"] == "boosted"
    sums = np.zeros((len(x), classes))
    if boosted:
        sums += np.array(model["base"], np.float32)
    for index, tree in enumerate(model["trees"]):
        leaf = walk(tree, columns, x)
        values = np.array(tree["leaves"], np.float32)
        if boosted:
            sums[:, index % classes] += values[leaf]
        else:
            sums += values.reshape(-1, classes)[leaf]
    if boosted:
        sums = np.exp(sums - sums.max(1, keepdims=True))
        return sums / sums.sum(1, keepdims=True)
    return sums / len(model["trees"])
