"""One side of `gradus bench step`: the same step in JAX, jitted whole, timed on request.

The protocol is that of step_torch.py; the only variant is `jit`. Images are NHWC, which XLA's CPU
backend prefers.
"""
import json, os, sys, time, traceback
import numpy as np
import jax
import jax.numpy as jnp
from jax import lax

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


def load(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        raw = file.read()
    meta, arrays = json.loads(header.pop("__metadata__")["gradus"]), {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        arrays[name] = np.frombuffer(raw[begin:end], np.float32).reshape(entry["shape"])
    return meta, arrays


class Net:
    """A forward pass over named arrays: parameters `p`, running statistics `s` in, `new` out."""

    def __init__(self, config, p, s, train):
        self.p, self.s, self.train, self.new = p, s, train, dict(s)
        self.air = config["name"] == "airnet"
        self.f = (lambda x: jax.nn.gelu(x, approximate=False)) if self.air else jax.nn.relu

    def conv(self, name, x, stride=1, pad=1):
        w = self.p[f"{name}.weight"] if f"{name}.weight" in self.p else self.s[f"{name}.weight"]
        return lax.conv_general_dilated(
            x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def norm(self, name, x):
        epsilon, momentum = (1e-12, 0.4) if self.air else (1e-5, 0.1)
        keys = (f"{name}.running_mean", f"{name}.running_var")
        if self.train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            n = x.size // x.shape[-1]
            for key, value in zip(keys, (mean, var * (n / max(n - 1, 1)))):
                blend = (1 - momentum) * self.s[key] + momentum * value
                self.new[key] = lax.stop_gradient(blend)
        else:
            mean, var = self.s[keys[0]], self.s[keys[1]]
        scale = lax.rsqrt(var + epsilon) * self.p.get(f"{name}.gamma", 1.0)
        return (x - mean) * scale + self.p[f"{name}.beta"]

    def pool(self, x):
        window = (1, 2, 2, 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")

    def blocks(self, x, prefix, place):
        i = 0
        while f"{prefix}.{i}.0.conv.weight" in self.p:
            j = 0
            while f"{prefix}.{i}.{j}.conv.weight" in self.p:
                name = f"{prefix}.{i}.{j}"
                last = f"{prefix}.{i}.{j + 1}.conv.weight" not in self.p
                x = self.conv(f"{name}.conv", x)
                x = self.pool(x) if place == "first" and j == 0 else x
                x = self.f(self.norm(f"{name}.norm", x))
                x = self.pool(x) if place == "last" and last else x
                j += 1
            i += 1
        return x

    def residual(self, name, x, stride):
        y = self.f(self.norm(f"{name}.norm1", self.conv(f"{name}.conv1", x, stride)))
        y = self.norm(f"{name}.norm2", self.conv(f"{name}.conv2", y))
        if f"{name}.shortcut.weight" in self.p:
            x = self.norm(f"{name}.shortcut_norm", self.conv(f"{name}.shortcut", x, stride, 0))
        elif x.shape != y.shape:
            x = x[:, ::stride, ::stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[3] - x.shape[3])))
        return self.f(y + x)

    def head(self, x):
        return x @ self.p["head.weight"] + self.p.get("head.bias", 0.0)


def logits(config, p, s, x, train):
    net = Net(config, p, s, train)
    if config["name"] == "cnn":
        y = net.head(net.blocks(x, "stages", config["pool"]).mean((1, 2)))
    elif config["name"] == "airnet":
        x = net.f(net.conv("whiten", x, pad=0) + p["whiten.bias"])
        y = net.head(net.blocks(x, "groups", "first").max((1, 2))) / 9
    else:
        x = net.f(net.norm("norm", net.conv("conv", x)))
        i = 0
        while f"stages.{i}.0.conv1.weight" in p:
            j = 0
            while f"stages.{i}.{j}.conv1.weight" in p:
                x = net.residual(f"stages.{i}.{j}", x, 2 if i > 0 and j == 0 else 1)
                j += 1
            i += 1
        y = net.head(x.mean((1, 2)))
    return y, net.new


class Side:
    def __init__(self, do):
        fixed = lambda key: "running" in key or key == "whiten.weight"
        place = lambda a: a.transpose(2, 3, 1, 0) if a.ndim == 4 else a
        own = {k: jnp.asarray(place(a)) for k, a in arrays.items() if not k.startswith("bench.")}
        self.p = {k: a for k, a in own.items() if not fixed(k)}
        self.s = {k: a for k, a in own.items() if fixed(k)}
        self.v = jax.tree.map(jnp.zeros_like, self.p)
        count = len(arrays["bench.labels"]) // meta["batch"]
        images = np.split(arrays["bench.images"].transpose(0, 2, 3, 1), count)
        labels = np.split(arrays["bench.labels"].astype("int32"), count)
        self.batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in zip(images, labels)]
        self.done = 0

        def loss(p, s, x, y):
            scores, s = logits(config, p, s, x, True)
            log_p = jax.nn.log_softmax(scores)
            return -jnp.take_along_axis(log_p, y[:, None], 1).mean(), s

        def step(p, s, v, x, y):
            (value, s), g = jax.value_and_grad(loss, has_aux=True)(p, s, x, y)
            v = jax.tree.map(lambda v, g: meta["momentum"] * v + g, v, g)
            return jax.tree.map(lambda p, v: p - meta["lr"] * v, p, v), s, v, value

        self.step = jax.jit(step, donate_argnums=(0, 1, 2))
        self.forward = jax.jit(lambda p, s, x: logits(config, p, s, x, False)[0])

    def train(self, steps):
        seconds, losses = [], []
        for _ in range(steps):
            x, y = self.batches[self.done % len(self.batches)]
            begin = time.perf_counter()
            self.p, self.s, self.v, value = self.step(self.p, self.s, self.v, x, y)
            jax.block_until_ready((self.p, value))
            seconds.append(time.perf_counter() - begin)
            losses.append(float(value))
            self.done += 1
        return seconds, losses

    def infer(self, steps):
        seconds = []
        for step in range(steps):
            x, _ = self.batches[step % len(self.batches)]
            begin = time.perf_counter()
            self.forward(self.p, self.s, x).block_until_ready()
            seconds.append(time.perf_counter() - begin)
        return seconds, []


answer({"version": f"jax {jax.__version__}", "threads": os.cpu_count()})
sides = {}
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["do"] == "load":
            meta, arrays = load(ask["file"])
            config, sides = meta["model"], {}
            fixed = ("bench.", "whiten.weight")
            named = [k for k in arrays if not k.startswith(fixed) and "running" not in k]
            answer({"trained": sum(arrays[k].size for k in named)})
            continue
        if ask["do"] not in sides:
            sides[ask["do"]] = Side(ask["do"])
        side = sides[ask["do"]]
        run = getattr(side, ask["do"])
        first, before, warmup = None, [], ask["warmup"]
        if ask["do"] == "train" and side.done == 0 and warmup > 0:
            # What is compiled is so in the first step.
            (first,), before = run(1)
            warmup -= 1
        before = before + run(warmup)[1]
        seconds, losses = run(ask["steps"])
        answer({
            "seconds": seconds,
            "losses": before + losses,
            "first_seconds": first,
            "peak_memory_bytes": None,
        })
    except Exception as error:
        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()]
        answer({"skip": lines[0] if lines else type(error).__name__})
