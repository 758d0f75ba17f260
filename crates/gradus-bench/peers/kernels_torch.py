"""One side of `gradus bench kernels`: one pass of one operation in PyTorch, channels-last.

Reads one JSON object a line from stdin and answers each with one on stdout: {"seconds": […]}.
"""
import json, os, sys, time
import torch
from torch.nn import functional as F

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


def stream(ask):
    """A pass of an operation that memory bounds."""
    shape = (ask["batch"], ask["in"], *ask["size"])
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    gamma, beta = torch.ones(ask["in"]), torch.zeros(ask["in"])
    forward = {
        "batch norm + relu": lambda x: F.relu_(F.batch_norm(x, None, None, gamma, beta, True)),
        "gelu": F.gelu,
        "max pool 2×2": lambda x: F.max_pool2d(x, 2),
    }[ask["operation"]]
    if not ask["backward"]:
        return lambda: forward(x)
    with torch.enable_grad():
        wanted = [t.requires_grad_() for t in (x, gamma, beta)]
        if ask["operation"] != "batch norm + relu":
            wanted = wanted[:1]
        y = forward(x)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def repeat(run, seconds):
    times, begin = [], time.perf_counter()
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        times.append(now - start)
        if now - begin >= seconds:
            return times


answer({"version": f"torch {torch.__version__}", "threads": torch.get_num_threads()})
kept, made = None, None
for line in sys.stdin:
    ask = json.loads(line)
    key = json.dumps({k: v for k, v in ask.items() if k not in ("pass", "seconds")})
    try:
        with torch.no_grad():
            if "operation" in ask:
                if key != kept:
                    made = None
                    made, kept = stream(ask), key
                answer({"seconds": repeat(made, ask["seconds"])})
                continue
            if key != kept:
                made = None  # the old tensors go first
                last = {"memory_format": torch.channels_last}
                x = torch.randn(ask["batch"], ask["in"], *ask["size"]).contiguous(**last)
                w = torch.randn(ask["out"], ask["in"] // ask["groups"], *ask["kernel"])
                w = w.contiguous(**last)
                if ask["precision"] == "bf16":
                    x, w = x.bfloat16(), w.bfloat16()
                how = (ask["stride"], ask["padding"], [1, 1])
                y = torch.nn.functional.conv2d(x, w, None, *how, ask["groups"])
                made, kept = (x, w, torch.randn_like(y)), key
            x, w, dy = made
            wanted = [ask["pass"] == "input_gradient", ask["pass"] == "weight_gradient", False]

            def run():
                if ask["pass"] == "forward":
                    torch.nn.functional.conv2d(x, w, None, *how, ask["groups"])
                else:
                    torch.ops.aten.convolution_backward(
                        dy, x, w, None, *how, False, [0, 0], ask["groups"], wanted
                    )

            answer({"seconds": repeat(run, ask["seconds"])})
    except Exception as error:
        answer({"skip": (str(error).splitlines() or [type(error).__name__])[0]})
