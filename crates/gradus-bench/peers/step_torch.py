"""One side of `gradus bench step`: training steps and forward passes in PyTorch, timed on request.

Answers each line of JSON on stdin with one on stdout: {"do": "load", "file": …, "device": "cpu" or "cuda"}
once, then
{"do": "train" or "infer", "variant": …, "warmup": 1, "steps": 10}. A variant is `nchw`,
`channels_last` or `compiled` (which is channels_last too), with `-bf16` or `-f16` behind it for autocast; the loss is
not scaled in f16, on either side.

On a GPU the steps of a call are timed together: it works while the program goes on.
"""
import json, os, sys, time, traceback
import torch
from torch.nn import functional as F
from models_torch import build, load, trained

# What libraries print must not come between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


def reset_peak():
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def peak():
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024


def timed(run, steps):
    """Seconds of each step and the losses; on a GPU all steps have the mean."""
    if device == "cpu":
        return run(steps)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    _, losses = run(steps)
    torch.cuda.synchronize()
    return [(time.perf_counter() - begin) / max(steps, 1)] * steps, losses


class Side:
    """One variant with its own weights, optimizer and place in the data."""

    def __init__(self, variant):
        layout, _, precision = variant.partition("-")
        self.half = {"bf16": torch.bfloat16, "f16": torch.float16}.get(precision)
        self.format = torch.contiguous_format if layout == "nchw" else torch.channels_last
        self.module = build(config, arrays).to(device=device, memory_format=self.format)
        self.model = torch.compile(self.module) if layout == "compiled" else self.module
        images, labels = torch.from_numpy(arrays["bench.images"]), arrays["bench.labels"]
        labels = torch.from_numpy(labels.astype("int64"))
        self.batches = [
            (x.to(device).contiguous(memory_format=self.format), y.to(device))
            for x, y in zip(images.split(meta["batch"]), labels.split(meta["batch"]))
        ]
        parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=meta["lr"], momentum=meta["momentum"])
        self.done = 0

    def train(self, steps):
        self.model.train()
        seconds, losses = [], []
        for _ in range(steps):
            x, y = self.batches[self.done % len(self.batches)]
            begin = time.perf_counter()
            with torch.autocast(device, self.half or torch.bfloat16, enabled=self.half is not None):
                loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - begin)
            losses.append(loss.detach())
            self.done += 1
        return seconds, [float(loss) for loss in losses]

    def infer(self, steps):
        self.model.eval()
        seconds = []
        with torch.inference_mode(), torch.autocast(device, self.half or torch.bfloat16, enabled=self.half is not None):
            for step in range(steps):
                x, _ = self.batches[step % len(self.batches)]
                begin = time.perf_counter()
                self.model(x)
                seconds.append(time.perf_counter() - begin)
        return seconds, []


answer({"version": f"torch {torch.__version__}", "threads": torch.get_num_threads()})
sides, device = {}, "cpu"
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["do"] == "load":
            device = ask.get("device", "cpu")
            if device == "cuda" and not torch.cuda.is_available():
                raise RuntimeError("this PyTorch has no CUDA device")
            meta, arrays = load(ask["file"])
            config, sides = meta["model"], {}
            answer({"trained": trained(build(config, arrays))})
            continue
        key, first = (ask["do"], ask["variant"]), None
        if key not in sides:
            sides[key] = Side(ask["variant"])
        side, able = sides[key], reset_peak()
        run = side.train if ask["do"] == "train" else side.infer
        before, warmup = [], ask["warmup"]
        if side.done == 0 and ask["do"] == "train" and warmup > 0:
            # What is compiled or allocated is so in the first step.
            (first,), before = timed(run, 1)
            warmup -= 1
        before = before + timed(run, warmup)[1]
        seconds, losses = timed(run, ask["steps"])
        answer({
            "seconds": seconds,
            "losses": before + losses,
            "first_seconds": first,
            "peak_memory_bytes": peak() if able else None,
        })
    except Exception as error:
        traceback.print_exc()
        lines = [line for line in str(error).splitlines() if line.strip()]
        answer({"skip": lines[0] if lines else type(error).__name__})
