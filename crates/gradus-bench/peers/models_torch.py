"""The networks of gradus-nn in PyTorch, layer for layer, with the weights of a file that Gradus wrote.

`load(path)` reads a safetensors file: the parameters by their names in Gradus, `bench.images` and
`bench.labels`, and in its metadata the configuration of the model. Widths are read off the weights.
"""
import json
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def load(path):
    """The metadata and the arrays of a safetensors file (f32 only)."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        raw = file.read()
    metadata = json.loads(header.pop("__metadata__")["gradus"])
    arrays = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", name
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(raw[begin:end], np.float32).reshape(entry["shape"]).copy()
    return metadata, arrays


def lists(arrays, prefix, suffix):
    """The shapes of `prefix.i.j.suffix`, as a list of lists."""
    found = []
    while f"{prefix}.{len(found)}.0.{suffix}" in arrays:
        i, row = len(found), []
        while f"{prefix}.{i}.{len(row)}.{suffix}" in arrays:
            row.append(arrays[f"{prefix}.{i}.{len(row)}.{suffix}"].shape)
        found.append(row)
    return found


class Block(nn.Module):
    """conv 3×3 → [pool] → norm → f → [pool]"""

    def __init__(self, shape, pool, f, norm):
        super().__init__()
        self.conv = nn.Conv2d(shape[1], shape[0], 3, padding=1, bias=False)
        self.norm, self.pool, self.f = norm(shape[0]), pool, f

    def forward(self, x):
        x = self.conv(x)
        if self.pool == "first":
            x = F.max_pool2d(x, 2)
        x = self.f(self.norm(x))
        return F.max_pool2d(x, 2) if self.pool == "last" else x


class Cnn(nn.Module):
    def __init__(self, config, arrays):
        super().__init__()
        place, stages = config["pool"], lists(arrays, "stages", "conv.weight")

        def pool(j, row):
            return place if j == (0 if place == "first" else len(row) - 1) else None

        self.stages = nn.ModuleList(
            nn.ModuleList(Block(s, pool(j, row), F.relu, nn.BatchNorm2d) for j, s in enumerate(row))
            for row in stages
        )
        self.head = nn.Linear(*arrays["head.weight"].shape)

    def forward(self, x):
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(x.mean((2, 3)))


class Residual(nn.Module):
    """f(norm(conv(f(norm(conv x)))) + shortcut x)"""

    def __init__(self, shape, stride, projected):
        super().__init__()
        width, channels = shape[:2]
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.more, self.shortcut = stride, width - channels, None
        if projected:
            self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(width)

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x))
        elif self.stride != 1 or self.more:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, config, arrays):
        super().__init__()
        width = arrays["conv.weight"].shape[0]
        self.conv = nn.Conv2d(arrays["conv.weight"].shape[1], width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Residual(
                    s, 2 if i > 0 and j == 0 else 1, f"stages.{i}.{j}.shortcut.weight" in arrays
                )
                for j, s in enumerate(row)
            )
            for i, row in enumerate(lists(arrays, "stages", "conv1.weight"))
        )
        self.head = nn.Linear(*arrays["head.weight"].shape)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return self.head(x.mean((2, 3)))


def frozen_gamma(width):
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad = False
    return norm


class AirNet(nn.Module):
    def __init__(self, config, arrays):
        super().__init__()
        filters, channels, side, _ = arrays["whiten.weight"].shape
        self.whiten = nn.Conv2d(channels, filters, side)
        self.whiten.weight.requires_grad = False
        self.groups = nn.ModuleList(
            nn.ModuleList(
                Block(s, "first" if j == 0 else None, F.gelu, frozen_gamma)
                for j, s in enumerate(row)
            )
            for row in lists(arrays, "groups", "conv.weight")
        )
        self.head = nn.Linear(*arrays["head.weight"].shape, bias=False)

    def forward(self, x):
        x = F.gelu(self.whiten(x))
        for group in self.groups:
            for block in group:
                x = block(x)
        return self.head(F.max_pool2d(x, x.shape[2:]).flatten(1)) / 9


def build(config, arrays):
    """The network with exactly the weights of `arrays`: none missing, none left over."""
    name = config["name"]
    if name.startswith("resnet"):
        model = ResNet(config, arrays)
    else:
        model = {"cnn": Cnn, "airnet": AirNet}[name](config, arrays)
    state = {}
    for key, array in arrays.items():
        if key.startswith("bench."):
            continue
        tensor = torch.from_numpy(array.copy())
        key = key.replace(".gamma", ".weight").replace(".beta", ".bias")
        state[key] = tensor.T.contiguous() if key == "head.weight" else tensor
    missing, left = model.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if name == "airnet":  # γ is absent there and stays 1
        missing = [key for key in missing if not key.endswith("norm.weight")]
    if missing or left:
        raise RuntimeError(f"not the same network: missing {missing}, left over {left}")
    return model


def trained(model):
    """The number of trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
