"""One side of `gradus bench optim`: steps of torch.optim, timed on request.

Reads one JSON object a line from stdin, {"optimizer": "adamw", "variant": "fused", "shapes": [[…], …],
"steps": 7, "device": "cpu"}, and answers each with one on stdout: {"ms": […]} or {"skip": "why"}.
"""
import json, sys, time
import torch



class Lion:
    """Lion in torch's own list operations: torch.optim has none."""

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-3):
        self.p, self.m = parameters, [torch.zeros_like(p) for p in parameters]
        self.lr, self.betas, self.decay = lr, betas, weight_decay

    @torch.no_grad()
    def step(self):
        g = [p.grad for p in self.p]
        step = torch._foreach_lerp(self.m, g, 1 - self.betas[0])
        torch._foreach_sign_(step)
        torch._foreach_mul_(self.p, 1 - self.lr * self.decay)
        torch._foreach_add_(self.p, step, alpha=-self.lr)
        torch._foreach_lerp_(self.m, g, 1 - self.betas[1])


print(json.dumps({"version": f"torch {torch.__version__}", "threads": torch.get_num_threads()}), flush=True)
kept, optimizer = None, None
for line in sys.stdin:
    ask = json.loads(line)
    device = ask.get("device", "cpu")
    settle = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    key = (device, ask["optimizer"], ask["variant"], json.dumps(ask["shapes"]))
    try:
        if key != kept:
            kept, optimizer = None, None  # the old tensors go first
            how = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}[ask["variant"]]
            parameters = [torch.nn.Parameter(torch.ones(shape, device=device)) for shape in ask["shapes"]]
            for p in parameters:
                p.grad = torch.full_like(p, 0.1)
            if ask["optimizer"] == "sgd":
                optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, **how)
            elif ask["optimizer"] == "adamw":
                optimizer = torch.optim.AdamW(parameters, lr=1e-3, **how)
            elif ask["optimizer"] == "lion" and how == {"foreach": True}:
                optimizer = Lion(parameters)
            else:
                raise RuntimeError("torch.optim has no " + ask["optimizer"])
            for _ in range(2):  # makes the state
                optimizer.step()
            kept = key
        times = []
        for _ in range(ask["steps"]):
            settle()
            start = time.perf_counter()
            optimizer.step()
            settle()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"ms": times}), flush=True)
    except Exception as error:
        print(json.dumps({"skip": str(error)}), flush=True)
