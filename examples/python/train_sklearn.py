"""A random forest of scikit-learn on a feature table, written as ONNX: train_sklearn.py
TABLE.parquet MODEL.onnx [EXPECTED.parquet]"""

import sys

import numpy as np
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from table import Table

table = Table(sys.argv[1])
x, y = table.of("train")
model = RandomForestClassifier(100, min_samples_leaf=2, random_state=1, n_jobs=2)
# The file then holds the labels by name, and nobody needs to say their order.
model.fit(x, np.array(table.labels)[y])
onnx = skl2onnx.to_onnx(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))],
                        options={id(model): {"zipmap": False}})
with open(sys.argv[2], "wb") as file:
    file.write(onnx.SerializeToString())
if len(sys.argv) > 3:
    # A class without a training flow is none of the model's: its probability is 0.
    probabilities = np.zeros((len(table.x), len(table.labels)))
    columns = [list(table.labels).index(label) for label in model.classes_]
    probabilities[:, columns] = model.predict_proba(table.x)
    table.write_expected(sys.argv[3], probabilities)
