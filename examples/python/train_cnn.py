"""A small CNN of PyTorch on a feature table, written as ONNX: train_cnn.py TABLE.parquet MODEL.onnx
[EXPECTED.parquet]

The table holds the header bits of each packet and, behind them, its series of sizes and gaps
(`serveflow features --features header_bits,packet_series`). The network looks at three neighbouring
packets at a time.
"""

import sys

import numpy as np
import torch
from table import Table, macro_f1
from torch import nn

SERIES = 5
EPOCHS = 30


class Cnn(nn.Module):
    """From rows as they are served to the logits of the classes."""

    def __init__(self, packets, bits, classes):
        super().__init__()
        self.packets, self.bits = packets, bits
        self.first = nn.Conv1d(bits + SERIES, 96, 3, padding=1)
        self.second = nn.Conv1d(96, 96, 3, padding=1)
        self.last = nn.Sequential(
            nn.Linear(2 * 96, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, classes)
        )

    def forward(self, x):
        split = self.packets * self.bits
        bits = x[:, :split].reshape(-1, self.packets, self.bits)
        series = x[:, split:].reshape(-1, self.packets, SERIES)
        # Sizes and gaps go over many orders of magnitude.
        series = torch.sign(series) * torch.log1p(torch.abs(series)) / 4
        x = torch.cat([bits, series], dim=2).transpose(1, 2)
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        return self.last(torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1))


def main(table, path, expected=None):
    torch.manual_seed(1)
    torch.set_num_threads(2)
    table = Table(table)
    packets = sum(name.endswith("payload") for name in table.names)
    bits, rest = divmod(len(table.names) - packets * SERIES, packets)
    assert packets and not rest, "expected a table of header_bits,packet_series"
    classes = len(table.labels)
    model = Cnn(packets, bits, classes)
    x, y = (torch.from_numpy(part) for part in table.of("train"))
    val_x, val_y = table.of("val")
    count = torch.bincount(y, minlength=classes).clamp(min=1)
    loss_of = nn.CrossEntropyLoss(weight=(len(y) / count / classes).sqrt())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    best, kept = -1.0, None
    for _ in range(EPOCHS):
        model.train()
        for own in torch.randperm(len(y)).split(128):
            optimizer.zero_grad()
            loss_of(model(x[own]), y[own]).backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            answers = model(torch.from_numpy(val_x)).argmax(dim=1).numpy()
        score = macro_f1(val_y, answers, classes)
        if score > best:
            best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    # A batch of any size, and probabilities rather than logits.
    served = nn.Sequential(model, nn.Softmax(dim=1)).eval()
    torch.onnx.export(
        served, (x[:2],), path, input_names=["X"], output_names=["probabilities"],
        dynamic_axes={"X": {0: "flows"}, "probabilities": {0: "flows"}}, opset_version=17,
        dynamo=False,
    )
    print(f"macro-F1 on val {best:.4f}")
    if expected:
        with torch.no_grad():
            parts = [served(rows).numpy() for rows in torch.from_numpy(table.x).split(512)]
        table.write_expected(expected, np.concatenate(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
