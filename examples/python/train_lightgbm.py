"""LightGBM on a feature table: train_lightgbm.py TABLE.parquet MODEL.txt [EXPECTED.parquet]"""

import sys

import lightgbm
from table import Table

table = Table(sys.argv[1])
(x, y), (val_x, val_y) = table.of("train"), table.of("val")
parameters = {
    "objective": "multiclass", "num_class": len(table.labels), "num_leaves": 15,
    "learning_rate": 0.2, "feature_fraction": 0.2, "min_data_in_leaf": 5, "num_threads": 1,
    "seed": 1, "deterministic": True, "verbose": -1,
}
data = lightgbm.Dataset(x, y, feature_name=table.names)
model = lightgbm.train(
    parameters, data, num_boost_round=30, valid_sets=[data.create_valid(val_x, val_y)],
    callbacks=[lightgbm.early_stopping(10, verbose=False)],
)
model.save_model(sys.argv[2])
if len(sys.argv) > 3:
    table.write_expected(sys.argv[3], model.predict(table.x))
