"""One side of `gradus bench kernels`: the passes of one convolution in PyTorch, channels-last.

Reads one JSON object a line from stdin and answers each with one on stdout: {"seconds": […]}.
"""
import json, os, sys, time
import torch

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(value):
    print(json.dumps(value), file=answers, flush=True)


answer({"version": f"torch {torch.__version__}", "threads": torch.get_num_threads()})
kept, made = None, None
for line in sys.stdin:
    ask = json.loads(line)
    key = json.dumps({k: v for k, v in ask.items() if k not in ("pass", "seconds")})
    try:
        with torch.no_grad():
            if key != kept:
                made = None  # the old tensors go first
                last = {"memory_format": torch.channels_last}
                x = torch.randn(ask["batch"], ask["in"], *ask["size"]).contiguous(**last)
                w = torch.randn(ask["out"], ask["in"] // ask["groups"], *ask["kernel"])
                w = w.contiguous(**last)
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

            times, begin = [], time.perf_counter()
            while True:
                start = time.perf_counter()
                run()
                now = time.perf_counter()
                times.append(now - start)
                if now - begin >= ask["seconds"]:
                    break
        answer({"seconds": times})
    except Exception as error:
        answer({"skip": (str(error).splitlines() or [type(error).__name__])[0]})
