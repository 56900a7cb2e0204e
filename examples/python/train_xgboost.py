"""XGBoost on a feature table: train_xgboost.py TABLE.parquet MODEL.ubj [EXPECTED.parquet]"""

import sys

import xgboost
from table import Table

table = Table(sys.argv[1])
(x, y), (val_x, val_y) = table.of("train"), table.of("val")
train = xgboost.DMatrix(x, y, feature_names=table.names)
val = xgboost.DMatrix(val_x, val_y, feature_names=table.names)
parameters = {
    "objective": "multi:softprob", "num_class": len(table.labels), "max_depth": 6, "eta": 0.3,
    "colsample_bytree": 0.2, "nthread": 1, "seed": 1,
}
model = xgboost.train(
    parameters, train, num_boost_round=30, evals=[(val, "val")], early_stopping_rounds=10,
    verbose_eval=False,
)
model.save_model(sys.argv[2])
if len(sys.argv) > 3:
    # Of a model that was stopped early, the best trees count.
    best = (0, model.best_iteration + 1)
    rows = xgboost.DMatrix(table.x, feature_names=table.names)
    table.write_expected(sys.argv[3], model.predict(rows, iteration_range=best))
