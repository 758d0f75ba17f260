"""PyTorch's side of the preset `airbench94`: the same recipe on the same files, seed after seed.

Recipe: K. Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024, arXiv:2404.00498, in the version with
Muon (airbench94_muon.py of github.com/KellerJordan/cifar10-airbench), written anew here.

    python airbench_torch.py --data ../shared/data/cifar10-jpeg.tar.xz --seeds 10 --device cuda [--compile]

Data: a folder or tar archive with train/CLASS/*.jpg and test/CLASS/*.jpg, or a folder with CIFAR-10's binary files.
For each seed one line of JSON on stdout: {"seed", "accuracy", "seconds", "images_per_second"}. The seconds hold
whitening, augmentation, training and test-time augmentation; not reading the files, nor the warm-up run that
compiles. fp16 on a GPU, f32 on a CPU (`--dtype` chooses).
"""
import argparse, io, json, pathlib, sys, tarfile, time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def read(source):
    """{"train": (bytes [N, 3, 32, 32], labels), "test": …}"""
    path = pathlib.Path(source)
    if path.is_dir() and (path / "test_batch.bin").exists():
        def part(names):
            rows = np.concatenate([np.fromfile(path / name, np.uint8).reshape(-1, 3073) for name in names])
            return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).copy()), torch.from_numpy(rows[:, 0].astype(np.int64))
        return {"train": part([f"data_batch_{i}.bin" for i in range(1, 6)]), "test": part(["test_batch.bin"])}
    from PIL import Image
    files = {"train": [], "test": []}
    if path.is_dir():
        entries = ((f.relative_to(path).parts, f.read_bytes()) for f in sorted(path.rglob("*.*")) if f.is_file())
    else:
        archive = tarfile.open(path)
        entries = ((pathlib.PurePosixPath(m.name).parts, archive.extractfile(m).read()) for m in archive if m.isfile())
    for parts, data in entries:
        if len(parts) >= 3 and parts[-3] in files:
            files[parts[-3]].append((parts[-2], parts[-1], np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))
    if not files["train"] or not files["test"]:
        sys.exit(f"expected train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary files, in {source}")
    classes = sorted({name for name, _, _ in files["train"]})
    out = {}
    for part, rows in files.items():
        rows.sort(key=lambda row: row[:2])
        images = torch.from_numpy(np.stack([row[2] for row in rows])).permute(0, 3, 1, 2).contiguous()
        out[part] = (images, torch.tensor([classes.index(row[0]) for row in rows]))
    return out


class Norm(nn.BatchNorm2d):
    def __init__(self, width):
        super().__init__(width, eps=1e-12, momentum=0.4)
        self.weight.requires_grad = False


class Conv(nn.Conv2d):
    """3×3 without bias; the first filters pass a channel on."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, 3, padding="same", bias=False)
        with torch.no_grad():
            nn.init.dirac_(self.weight[:inputs])


class Group(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.conv1, self.norm1 = Conv(inputs, width), Norm(width)
        self.conv2, self.norm2 = Conv(width, width), Norm(width)

    def forward(self, x):
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class Net(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad = False
        sides = [24, *widths]
        self.groups = nn.ModuleList(Group(a, b) for a, b in zip(sides, widths))
        self.head = nn.Linear(widths[-1], 10, bias=False)
        with torch.no_grad():
            self.head.weight /= self.head.weight.std()

    def whiten_by(self, images, eps=5e-4):
        patches = images.float().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches), UPLO="U")
        filters = (vectors / (values + eps).sqrt()).T.reshape(12, 3, 2, 2)
        self.whiten.weight.data[:] = torch.cat((filters, -filters))

    def forward(self, x, train_bias=True):
        bias = self.whiten.bias if train_bias else self.whiten.bias.detach()
        x = F.gelu(F.conv2d(x, self.whiten.weight, bias))
        for group in self.groups:
            x = group(x)
        return self.head(F.max_pool2d(x, 3).flatten(1)) / x.shape[1]


class Muon:
    """b ← 0.6b + g, u = g + 0.6b, w ← w·√C/‖w‖ − η·orthogonal(u)"""

    def __init__(self, weights, momentum=0.6, low=torch.bfloat16):
        self.weights, self.momentum, self.low = weights, momentum, low
        self.buffers = [torch.zeros_like(w) for w in weights]

    @torch.no_grad()
    def step(self, lr):
        for w, b in zip(self.weights, self.buffers):
            b.mul_(self.momentum).add_(w.grad)
            u = w.grad.add(b, alpha=self.momentum)
            w.mul_(len(w) ** 0.5 / w.norm())
            w.add_(orthogonal(u.reshape(len(u), -1), self.low).view(w.shape), alpha=-lr)


def orthogonal(matrix, low, steps=3, eps=1e-7):
    x = matrix.to(low)
    x = x / (x.norm() + eps)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).to(matrix.dtype)


def crops(images, translate=2):
    """A part of each image, padded by its mirror, at an offset of its own."""
    n, _, side, _ = images.shape
    padded = F.pad(images, (translate,) * 4, "reflect")
    shift = torch.randint(0, 2 * translate + 1, (n, 2), device=images.device)
    at = torch.arange(side, device=images.device)
    rows, columns = shift[:, 0, None] + at, shift[:, 1, None] + at
    return padded[torch.arange(n, device=images.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def scores(net, images):
    """Mirrored views, and those shifted by a pixel along the diagonals."""
    out = []
    for x in images.split(2000):
        padded = F.pad(x, (1,) * 4, "reflect")
        views = [(x, 0.25), (padded[:, :, :32, :32], 0.125), (padded[:, :, 2:34, 2:34], 0.125)]
        out.append(sum(w * (net(v) + net(v.flip(3))) for v, w in views))
    return torch.cat(out)


def run(seed, data, args, step):
    device, dtype = args.device, args.dtype
    torch.manual_seed(seed)
    net = Net(args.widths).to(device).to(memory_format=torch.channels_last)
    for module in net.modules():
        if not isinstance(module, nn.BatchNorm2d):
            for parameter in module._parameters.values():
                if parameter is not None:
                    parameter.data = parameter.data.to(dtype)
    batch, epochs = args.batch, args.epochs
    steps_per_epoch = len(data["train"][0]) // batch
    total = epochs * steps_per_epoch
    settle(device)
    begun = time.perf_counter()
    normal = lambda x: ((x.to(device).float() / 255 - torch.tensor(MEAN, device=device).view(1, 3, 1, 1))
                        / torch.tensor(STD, device=device).view(1, 3, 1, 1)).to(dtype).contiguous(memory_format=torch.channels_last)
    images, labels = normal(data["train"][0]), data["train"][1].to(device)
    net.whiten_by(images[:5000])
    norms = [p for n, p in net.named_parameters() if "norm" in n and p.requires_grad]
    convs = [p for n, p in net.named_parameters() if "conv" in n]
    rates = [0.053, 0.053, 0.67]
    groups = [{"params": p, "lr": lr, "weight_decay": 2e-6 * batch / lr}
              for p, lr in zip(([net.whiten.bias], norms, [net.head.weight]), rates)]
    rest = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=device.startswith("cuda"))
    muon = Muon(convs, low=torch.bfloat16 if device.startswith("cuda") else torch.float32)
    flipped = torch.rand(len(images), device=device) < 0.5
    images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    done = 0
    net.train()
    for epoch in range(epochs):
        x = crops(images)
        x = (x.flip(3) if epoch % 2 else x).contiguous(memory_format=torch.channels_last)
        order = torch.randperm(len(x), device=device)
        for i in range(steps_per_epoch):
            rows = order[i * batch:(i + 1) * batch]
            loss = step(net, x[rows], labels[rows], epoch < 3)
            loss.backward()
            left = 1 - done / total
            for group, lr in zip(rest.param_groups, rates):
                group["lr"] = lr * left
            rest.param_groups[0]["lr"] = 0.053 * max(0.0, 1 - done / (3 * steps_per_epoch))
            rest.step()
            muon.step(0.24 * left)
            net.zero_grad(set_to_none=True)
            done += 1
            if args.steps and done >= args.steps:
                break
        if args.steps and done >= args.steps:
            break
    net.eval()
    with torch.no_grad():
        found = scores(net, normal(data["test"][0])).argmax(1)
        accuracy = (found == data["test"][1].to(device)).float().mean().item()
    settle(device)
    seconds = time.perf_counter() - begun
    return {"seed": seed, "accuracy": accuracy, "seconds": seconds, "images_per_second": done * batch / seconds}


def loss_of(net, x, y, train_bias):
    return F.cross_entropy(net(x, train_bias).float(), y, label_smoothing=0.2, reduction="sum")


def settle(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--widths", type=lambda text: [int(w) for w in text.split(",")], default=[64, 256, 256])
    parser.add_argument("--dtype", choices=["f16", "f32"])
    parser.add_argument("--compile", action="store_true", help="torch.compile(mode='max-autotune')")
    parser.add_argument("--steps", type=int, default=0, help="stop early: a trial")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    name = args.dtype or ("f16" if args.device.startswith("cuda") else "f32")
    args.dtype = {"f16": torch.float16, "f32": torch.float32}[name]
    data = read(args.data)
    # A loss of the whole batch overflows f16 only in its sum, which is taken in f32.
    step = torch.compile(loss_of, mode="max-autotune") if args.compile else loss_of
    if args.device.startswith("cuda"):
        steps, args.steps = args.steps, 30
        run(0, data, args, step)  # compiles and warms up
        args.steps = steps
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        print(json.dumps(run(seed, data, args, step)), flush=True)


if __name__ == "__main__":
    main()
