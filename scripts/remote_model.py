"""A model that MLServer serves for scripts/remote.py: a fixed linear map of the columns, and a
softmax."""

import os

import numpy as np

CLASSES = 11


def probabilities(x):
    """Probabilities of all classes, for rows of columns; the same for the same rows, wherever it is
    called."""
    # Columns are bits, and numbers up to billions.
    x = np.sign(x) * np.log1p(np.abs(x.astype(np.float64)))
    weights = np.random.default_rng(7).standard_normal((x.shape[1], CLASSES)) / np.sqrt(x.shape[1])
    logits = 2 * x @ weights
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32)


# The test itself wants the function alone.
if "MLSERVER_HTTP_PORT" in os.environ:
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceResponse

    class Linear(MLModel):
        """The runtime that model-settings.json names."""

        async def load(self):
            return True

        async def predict(self, payload):
            x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
            answer = NumpyCodec.encode_output("probabilities", probabilities(x))
            return InferenceResponse(model_name=self.name, outputs=[answer])
