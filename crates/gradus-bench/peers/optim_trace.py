"""Differential test of `gradus optim trace` and `gradus optim schedule` against torch and optax, in f64.

Draws gradients (dimensions, signs, scales from 1e-6 to 1e6, zeros, sparse ones, steps of nothing but
zeros, spikes), starting points and hyper-parameters, gives the same to both sides, and compares every
iterate. An error is measured per coordinate, relative to the largest of |θ|, the start, and the length
of the path so far; for schedules relative to the largest rate of the run.

    pip install torch optax numpy
    python optim_trace.py --gradus target/release/gradus --cases 20 --seed 1

Exit code 1 if anything disagrees; every disagreement is printed with the command that repeats it.

What is arranged so that the two sides mean the same:
- torch runs with f64 as its default type: NAdam's product and ASGD's rate are scalars of that type.
- torch.optim.Muon rounds its Newton-Schulz step to bfloat16; here its module reads f64 for bfloat16.
  It sees the transposed weights: a dense layer is [in, out] in Burn, [out, in] in torch.
- optax's Prodigy and D-Adaptation become NaN for good after zero gradients from the start (0/0), where
  ours waits: their first gradient is never zero.
- optax's schedule-free warm-up has rate 0 in its first step, ours 1/T: none is drawn.
- optax's LARS takes nesterov without momentum, ours calls it an error: its momentum is above zero.
- LAMB's rate is below 1: at 1 a single weight steps onto zero, where the ratio depends on whether rounding
  leaves 0 (ours) or 1e-17 (optax).
- torch's recursive formulas of ConstantLR, LinearLR divide by the factor: it is never zero. Chained
  cosines are drawn long enough not to turn: behind T_max torch's recursion adds instead of multiplying.
"""
import argparse, json, math, os, random, subprocess, sys, tempfile, warnings
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import numpy as np
import optax
import torch

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
warnings.filterwarnings("ignore")


class TorchInF64:
    """The module torch, where bfloat16 is float64."""

    def __getattr__(self, name):
        return torch.float64 if name == "bfloat16" else getattr(torch, name)


sys.modules["torch.optim._muon"].torch = TorchInF64()


class Draw(random.Random):
    """Random hyper-parameters, often at the values that people take."""

    def flag(self, p=0.5):
        return self.random() < p

    def log(self, low, high):
        return 10 ** self.uniform(math.log10(low), math.log10(high))

    def rate(self):
        return self.choice([1e-3, 0.1, 1.0, self.log(1e-5, 2.0), self.log(1e-5, 2.0)])

    def beta(self, low=0.0, high=0.9999):
        return self.choice([0.9, 0.999, self.uniform(low, high), 1 - self.log(1 - high, 1 - low)])

    def eps(self, least=1e-12):
        return self.choice([1e-8, self.log(least, 1e-2)])

    def decay(self):
        return self.choice([0.0, 0.01, self.log(1e-6, 0.5)])


def of(*names):
    """A drawer of the named hyper-parameters, those that many rules have in common."""
    how = {
        "lr": Draw.rate, "learning_rate": Draw.rate, "eps": Draw.eps, "weight_decay": Draw.decay,
        "eps_root": lambda r: r.choice([0.0, r.eps()]), "maximize": lambda r: r.flag(0.2),
        "betas": lambda r: (r.beta(), r.beta()), "b1": Draw.beta, "b2": Draw.beta, "b3": Draw.beta,
        "amsgrad": Draw.flag, "nesterov": Draw.flag, "decoupled_weight_decay": Draw.flag,
        "momentum": lambda r: r.choice([0.0, 0.9, r.uniform(0, 0.99)]),
    }
    # Now and then a name is left out, so that defaults are compared too.
    return lambda r: {name: how[name](r) for name in names
                      if name == "learning_rate" or not r.flag(0.15)}


def sgd(r):
    given = of("lr", "momentum", "weight_decay", "maximize")(r)
    if given.get("momentum", 0) > 0 and r.flag():
        given["nesterov"] = True
    elif r.flag():
        given["dampening"] = r.choice([0.1, r.uniform(-0.5, 1.0)])
    return given


def rmsprop(r):
    given = of("lr", "eps", "weight_decay", "momentum", "maximize")(r)
    # Near α = 0 the variance is what rounding leaves of s − a².
    return given | dict(alpha=r.uniform(0.3, 0.9999), centered=r.flag())


def adafactor(r):
    given = of("lr", "weight_decay", "maximize")(r) | dict(beta2_decay=-r.uniform(0, 2), d=r.uniform(1, 5))
    if r.flag():
        given["eps"] = (r.choice([None, r.log(1e-16, 1e-2)]), r.log(1e-8, 1e-1))
    return given


def muon(r):
    given = of("lr", "weight_decay", "momentum", "nesterov")(r)
    given["adjust_lr_fn"] = r.choice(["original", "match_rms_adamw", "spectral_unclamped"])
    return given | dict(ns_steps=r.randint(0, 7), eps=r.log(1e-12, 1e-3))


TORCH = {
    "SGD": sgd,
    "Adam": of("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"),
    "AdamW": of("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize"),
    "Adamax": of("lr", "betas", "eps", "weight_decay", "maximize"),
    "NAdam": lambda r: of("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize")(r)
    | dict(momentum_decay=r.log(1e-4, 0.5)),
    "RAdam": of("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize"),
    "Adagrad": lambda r: of("lr", "eps", "weight_decay", "maximize")(r)
    | dict(lr_decay=r.choice([0.0, r.log(1e-4, 1)]), initial_accumulator_value=r.choice([0.0, r.log(1e-4, 10)])),
    "Adadelta": lambda r: of("lr", "eps", "weight_decay", "maximize")(r) | dict(rho=r.uniform(0, 1)),
    "RMSprop": rmsprop,
    "Rprop": lambda r: of("lr", "maximize")(r) | dict(etas=(r.uniform(0.05, 0.95), r.uniform(1.05, 3)),
                                                      step_sizes=(r.log(1e-8, 1e-3), r.log(1, 100))),
    "ASGD": lambda r: of("lr", "weight_decay", "maximize")(r)
    | dict(lambd=r.log(1e-6, 0.1), alpha=r.uniform(0, 1.5), t0=float(r.choice([0, 1, 5, 1e6]))),
    "Adafactor": adafactor,
    "Muon": muon,
}
OPTAX = {
    "lion": of("learning_rate", "b1", "b2", "weight_decay"),
    "adabelief": lambda r: of("learning_rate", "b1", "b2", "nesterov")(r) | dict(eps=r.eps(), eps_root=r.eps()),
    "yogi": of("learning_rate", "b1", "b2", "eps"),
    "nadamw": of("learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"),
    "lamb": lambda r: of("b1", "b2", "eps", "eps_root", "weight_decay")(r) | dict(learning_rate=r.log(1e-5, 0.9)),
    "lars": lambda r: of("learning_rate", "weight_decay")(r)
    | dict(momentum=r.uniform(0.1, 0.99), nesterov=r.flag(), trust_coefficient=r.log(1e-4, 1), eps=r.choice([0.0, r.eps()])),
    "novograd": of("learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"),
    "adan": of("learning_rate", "b1", "b2", "b3", "eps", "eps_root", "weight_decay"),
    "sign_sgd": of("learning_rate"),
    "prodigy": lambda r: of("learning_rate", "betas", "eps", "weight_decay")(r)
    | dict(estim_lr0=r.log(1e-8, 1e-2), estim_lr_coef=r.uniform(0.2, 3), safeguard_warmup=r.flag(),
           beta3=r.choice([None, r.uniform(0.5, 0.9999)])),
    "schedule_free_adamw": lambda r: of("learning_rate", "b2", "eps", "weight_decay")(r)
    | dict(b1=r.uniform(0.3, 0.99), weight_lr_power=r.uniform(0, 3)),
    "schedule_free_sgd": lambda r: of("learning_rate", "weight_decay")(r)
    | dict(b1=r.uniform(0.3, 0.99), weight_lr_power=r.uniform(0, 3)),
    "dadapt_adamw": lambda r: of("learning_rate", "betas", "eps", "weight_decay")(r)
    | dict(estim_lr0=r.log(1e-8, 1e-2)),
    "ademamix": lambda r: of("learning_rate", "b1", "b2", "b3", "eps", "eps_root", "weight_decay")(r)
    | dict(alpha=r.uniform(0, 10)),
    "adopt": lambda r: of("learning_rate", "b1", "b2", "nesterov")(r) | dict(use_clipping=r.flag(), eps=r.eps()),
}
SHAPED = {"Muon": [(2, 3), (3, 2), (4, 4), (1, 5)], "Adafactor": [(5,), (2, 3), (3, 2), (2, 3, 2), (2, 2, 2, 2)]}


def text_of(name, given, r):
    """The text form, in any case and with either dash."""
    def value(x):
        if isinstance(x, bool) or x is None:
            return {True: "true", False: "false", None: "none"}[x]
        if isinstance(x, (tuple, list)):
            return "(" + ", ".join(map(value, x)) + ")"
        return str(x)

    def word(text):
        return text.replace("_", r.choice("-_"))
    name = word(r.choice([name, name.lower(), name.upper()]))
    return f"{name}(" + r.choice([",", ", "]).join(f"{word(k)}={value(v)}" for k, v in given.items()) + ")"


def gradients(r, size, steps, never_zero_first):
    """One list of numbers for each step."""
    scale = r.log(1e-6, 1e6) if r.flag() else 1.0
    scales = [scale * (r.log(1e-3, 1e3) if r.flag(0.3) else 1.0) for _ in range(size)]
    sparse, still, spiky = r.choice([0, 0, 0.3, 0.8]), r.choice([0, 0, 0.3]), r.choice([0, 0, 0.1])
    bias, noise = r.choice([0.0, 0.0, 1.0, -3.0]), r.choice([1.0, 1.0, 0.1])

    def entry(s):
        spike = 1e3 if r.random() < spiky else 1.0
        return 0.0 if r.random() < sparse else s * spike * (bias + noise * r.gauss(0, 1))
    rows = [[0.0 if r.random() < still else 1.0] * size for _ in range(steps)]
    rows = [[entry(s) * on for s, on in zip(scales, row)] for row in rows]
    if never_zero_first:
        rows[0] = [s * r.choice([-1, 1]) * r.uniform(0.5, 2) for s in scales]
    return rows


def by_torch(name, given, theta, shape, rows, before=lambda p: None, behind=lambda p: None):
    """Iterates of torch.optim; `before` sees the parameter with its gradient, `behind` without."""
    turned = (lambda x: x.T.contiguous()) if name == "Muon" else (lambda x: x)
    p = torch.nn.Parameter(turned(torch.tensor(theta).reshape(shape)))
    optimizer = getattr(torch.optim, name)([p], **given)
    path = []
    for row in rows:
        p.grad = turned(torch.tensor(row).reshape(shape))
        before(p)
        optimizer.step()
        with torch.no_grad():
            behind(p)
        path.append(turned(p.detach()).flatten().tolist())
    return path


def by_optax(name, given, theta, shape, rows):
    rule = getattr(optax, name, None) or getattr(optax.contrib, name)
    rule = rule(**given)
    p = jnp.array(theta).reshape(shape)

    def step(carry, g):
        p, state = carry
        change, state = rule.update(g, state, p)
        p = optax.apply_updates(p, change)
        return (p, state), p
    grads = jnp.array(rows).reshape((len(rows), *shape))
    _, path = jax.lax.scan(step, (p, rule.init(p)), grads)
    return np.asarray(path).reshape(len(rows), -1).tolist()


def gap(theta, ours, theirs):
    """The largest error of any iterate, relative as the head says; NaN agrees with null."""
    worst, length = 0.0, [0.0] * len(theta)
    previous = theta
    if len(ours) != len(theirs):
        return math.inf
    for mine, yours in zip(ours, theirs):
        for i, (a, b) in enumerate(zip(mine, yours)):
            if a is None or not math.isfinite(b):
                # JSON has no word for what is not finite.
                if a is not None or math.isfinite(b):
                    return math.inf
                continue
            length[i] += abs(b - previous[i])
            size = max(abs(b), abs(theta[i]), length[i]) or 1e-300
            worst = max(worst, abs(a - b) / size)
        if any(not math.isfinite(b) for b in yours):
            break  # nothing is asked of what follows
        previous = yours
    return worst


def rate_gap(ours, theirs):
    size = max(abs(x) for x in theirs) or 1e-300
    return math.inf if len(ours) != len(theirs) else max(abs(a - b) for a, b in zip(ours, theirs)) / size


# Stages, each as text, as torch.nn.utils or its formula before the step, and its formula behind it.

def l1(r):
    weight, lr = r.log(1e-3, 1), {}

    def shrink(p):
        p.copy_(p.sign() * (p.abs() - lr["lr"] * weight).clamp(min=0))
    return f"l1({weight})", None, shrink, lr


def clip(word, how):
    def make(r):
        limit = r.log(1e-3, 1e3)
        return f"{word}({limit})", lambda p: how(p, limit), None, {}
    return make


def lookahead(r):
    k, alpha, slow, count = r.randint(1, 6), r.uniform(0, 1), [], [0]

    def first(p):
        if not slow:
            slow.append(p.detach().clone())

    def meet(p):
        count[0] += 1
        if count[0] % k == 0:
            slow[0] += alpha * (p - slow[0])
            p.copy_(slow[0])
    return f"lookahead(k={k}, alpha={alpha})", first, meet, {}


def centralize(r):
    def before(p):
        if p.ndim == 2:
            p.grad -= p.grad.mean(0, keepdim=True)
        elif p.ndim > 2:
            p.grad -= p.grad.mean(tuple(range(1, p.ndim)), keepdim=True)
    return "centralize", before, None, {}


def max_norm(r):
    c = r.log(1e-2, 10)

    def behind(p):
        if p.ndim == 2:
            p *= (c / p.norm(dim=0, keepdim=True)).clamp(max=1)
    return f"max-norm({c})", None, behind, {}


def clip_adaptive(r):
    clipping, eps = r.log(1e-3, 1), r.log(1e-4, 1e-1)

    def before(p):
        agc = optax.adaptive_grad_clip(clipping, eps)
        theta = jnp.array(p.detach().numpy())
        g, _ = agc.update(jnp.array(p.grad.numpy()), agc.init(theta), theta)
        p.grad = torch.tensor(np.array(g))
    return f"clip_adaptive({clipping}, eps={eps})", before, None, {}


def untouched(text):
    return lambda r: (text, None, None, {})


STAGES = {
    "clip_global": clip("clip-global", torch.nn.utils.clip_grad_norm_),
    "clip_norm": clip("clip_norm", torch.nn.utils.clip_grad_norm_),
    "clip_value": clip("clip-value", torch.nn.utils.clip_grad_value_),
    "clip_adaptive": clip_adaptive, "centralize": centralize, "max_norm": max_norm,
    "l1": l1, "lookahead": lookahead, "ema": untouched("ema(0.999)"), "swa": untouched("swa(start=3)"),
}

# Schedules: torch's class, ours, and the arguments drawn for `steps` steps.
S = torch.optim.lr_scheduler


def onecycle(r, steps):
    total = r.choice([steps, steps + r.randint(0, 30)])
    given = dict(max_lr=r.log(1e-3, 5), total_steps=total, pct_start=r.uniform(3 / total, 0.45),
                 anneal_strategy=r.choice(["cos", "linear"]), three_phase=r.flag(), cycle_momentum=r.flag(0.8),
                 base_momentum=r.uniform(0, 0.9), max_momentum=r.uniform(0.9, 0.99),
                 div_factor=r.uniform(1, 50), final_div_factor=r.log(1, 1e5))
    if r.flag(0.3):
        for name in ("base_momentum", "div_factor", "final_div_factor"):
            given.pop(name)
    return given


def cyclic(r, steps):
    given = dict(base_lr=r.log(1e-4, 0.1), max_lr=r.log(0.1, 2), step_size_up=r.randint(1, 25),
                 mode=r.choice(["triangular", "triangular2", "exp_range"]), cycle_momentum=r.flag(0.8),
                 base_momentum=r.uniform(0, 0.8), max_momentum=r.uniform(0.8, 0.99))
    if given["mode"] == "exp_range":
        given["gamma"] = r.uniform(0.9, 1.0)
    if r.flag():
        given["step_size_down"] = r.randint(1, 25)
    return given


SCHEDULES = {
    "StepLR": ("step", lambda r, n: dict(step_size=r.randint(1, n), gamma=r.log(0.05, 1.5))),
    "MultiStepLR": ("multi_step", lambda r, n: dict(
        milestones=sorted(r.randint(1, n) for _ in range(r.randint(1, 6))), gamma=r.log(0.05, 1.5))),
    "ExponentialLR": ("exponential", lambda r, n: dict(gamma=r.uniform(0.7, 1.02))),
    "CosineAnnealingLR": ("cosine", lambda r, n: dict(T_max=r.randint(1, 2 * n), eta_min=r.choice([0.0, r.log(1e-6, 0.1)]))),
    "CosineAnnealingWarmRestarts": ("cosine_restarts", lambda r, n: dict(
        T_0=r.randint(1, n), T_mult=r.randint(1, 3), eta_min=r.choice([0.0, r.log(1e-6, 0.1)]))),
    "LinearLR": ("linear", lambda r, n: dict(
        start_factor=r.uniform(1e-3, 1), end_factor=r.choice([0.0, 1.0, r.random()]), total_iters=r.randint(1, 2 * n))),
    "PolynomialLR": ("polynomial", lambda r, n: dict(total_iters=r.randint(1, 2 * n), power=r.choice([1.0, r.uniform(0.2, 4)]))),
    "ConstantLR": ("constant", lambda r, n: dict(factor=r.uniform(0.01, 1), total_iters=r.randint(1, 2 * n))),
    "OneCycleLR": ("onecycle", onecycle),
    "CyclicLR": ("cyclic", cyclic),
}
SIMPLE = ["StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "PolynomialLR", "ConstantLR"]


def ours(name, given, r):
    return text_of(SCHEDULES[name][0], given, r)


def momentum_of(optimizer):
    return optimizer.param_groups[0]["momentum"]


class Trial:
    def __init__(self, args):
        self.args, self.failures, self.count = args, [], {}
        self.folder = tempfile.TemporaryDirectory()
        self.worst = {}

    def gradus(self, words, name, data=None, option="--grads"):
        """The JSON that a command prints; `data` goes through a file."""
        command = [self.args.gradus, "optim", *words, "--json"]
        if data is not None:
            path = os.path.join(self.folder.name, f"{name}.json")
            with open(path, "w") as file:
                json.dump(data, file)
            command += [option, path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout), command

    def verdict(self, kind, error, limit, told):
        self.count[kind] = self.count.get(kind, 0) + 1
        self.worst[kind] = max(self.worst.get(kind, 0.0), error)
        if not error <= limit:
            self.failures.append((kind, f"{error:.2e} > {limit:g}: {told}"))

    def one_rule(self, library, name, seed):
        r = Draw(f"{name} {seed}")
        given = (TORCH if library == "torch" else OPTAX)[name](r)
        shape = r.choice(SHAPED.get(name, [(1,), (3,), (7,), (2, 3)]))
        size, steps = math.prod(shape), r.choice([1, 5, 40, 120])
        theta = [r.choice([0.0, 1.0, r.gauss(0, 1) * r.log(1e-3, 1e3)]) for _ in range(size)]
        rows = gradients(r, size, steps, name in ("prodigy", "dadapt_adamw"))
        text = text_of(name, given, r)
        words = ["trace", "--optimizer", text, "--theta", ",".join(map(str, theta)), "--shape", ",".join(map(str, shape))]
        told = f"{words} seed {seed}"
        try:
            result, _ = self.gradus(words, f"{name}-{seed}", rows)
            if list(result) != ["optimizer", "iterates"]:
                raise RuntimeError(f"the keys are {list(result)}")
            again, _ = self.gradus(["trace", "--optimizer", result["optimizer"], *words[3:]], f"{name}-{seed}", rows)
            if again != result:
                raise RuntimeError(f"the text that is printed, {result['optimizer']}, gives another path")
        except RuntimeError as problem:
            self.failures.append((name, f"{problem}: {told}"))
            return
        theirs = (by_torch if library == "torch" else by_optax)(name, given, theta, shape, rows)
        self.verdict(name, gap(theta, result["iterates"], theirs), self.args.tolerance, told)
        if self.args.f32:
            single, _ = self.gradus([*words, "--dtype", "f32"], f"{name}-{seed}", rows)
            self.verdict(f"{name} in f32", gap(theta, single["iterates"], result["iterates"]), math.inf, told)

    def one_chain(self, seed):
        r = Draw(f"chain {seed}")
        # Stages in the order in which both sides do them: first on gradients, then on weights.
        first = r.sample(["clip_global", "clip_norm", "clip_value", "clip_adaptive", "centralize"], r.randint(0, 2))
        then = r.sample(["l1", "max_norm", "lookahead", "ema", "swa"], r.randint(0 if first else 1, 2))
        stages = [STAGES[name](r) for name in first + then]
        given = {"SGD": sgd, "Adam": TORCH["Adam"], "AdamW": TORCH["AdamW"]}
        name = r.choice(list(given))
        given = {"lr": r.rate()} | given[name](r)
        for _, _, _, need in stages:
            need["lr"] = given["lr"]
        shape = r.choice([(5,), (3, 2)])
        theta = [r.gauss(0, 1) * r.log(1e-1, 1e1) for _ in range(math.prod(shape))]
        rows = gradients(r, len(theta), 30, True)
        text = " | ".join([text_of(name, given, r), *(stage[0] for stage in stages)])
        words = ["trace", "--optimizer", text, "--theta", ",".join(map(str, theta)), "--shape", ",".join(map(str, shape))]

        def before(p):
            for _, act, _, _ in stages:
                act and act(p)

        def behind(p):
            for _, _, act, _ in stages:
                act and act(p)
        kind = "chains"
        try:
            result, _ = self.gradus(words, f"chain-{seed}", rows)
        except RuntimeError as problem:
            self.failures.append((kind, f"{problem}: {words}"))
            return
        theirs = by_torch(name, given, theta, shape, rows, before, behind)
        self.verdict(kind, gap(theta, result["iterates"], theirs), self.args.tolerance, f"{words} seed {seed}")

    def compare_schedule(self, kind, text, steps, base, make, seed):
        """`make` builds torch's scheduler on an optimizer."""
        p = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([p], lr=base, momentum=0.5)
        scheduler = make(optimizer)
        lrs, momenta = [], []
        for step in range(steps):
            lrs.append(optimizer.param_groups[0]["lr"])
            momenta.append(momentum_of(optimizer))
            if step + 1 < steps:
                optimizer.step()
                scheduler.step()
        words = ["schedule", text, "--steps", str(steps), "--lr", str(base)]
        try:
            result, _ = self.gradus(words, kind)
            if list(result) != ["lr", "momentum"]:
                raise RuntimeError(f"the keys are {list(result)}")
        except RuntimeError as problem:
            self.failures.append((kind, f"{problem}: {words}"))
            return
        told = f"{words} seed {seed}"
        self.verdict(kind, rate_gap(result["lr"], lrs), self.args.tolerance, told)
        if result["momentum"] is not None:
            self.verdict(f"{kind}, momentum", rate_gap(result["momentum"], momenta), self.args.tolerance, told)
        elif len(set(momenta)) > 1:
            self.failures.append((kind, f"no momentum: {told}"))

    def one_schedule(self, name, seed):
        r = Draw(f"{name} {seed}")
        steps, base = r.choice([1, 10, 60, 200]), r.choice([1.0, 0.5, r.log(1e-4, 10)])
        steps = max(steps, 10) if name == "OneCycleLR" else steps
        given = SCHEDULES[name][1](r, steps)
        self.compare_schedule(name, ours(name, given, r), steps, base,
                              lambda optimizer: getattr(S, name)(optimizer, **given), seed)

    def several(self, kind, seed):
        r = Draw(f"{kind} {seed}")
        steps, base = r.choice([20, 60, 150]), r.choice([1.0, r.log(1e-3, 2)])
        of_kind = SIMPLE + (["CosineAnnealingLR", "CosineAnnealingWarmRestarts"] if kind == "SequentialLR" else [])
        parts = [(name, SCHEDULES[name][1](r, steps)) for name in (r.choice(of_kind) for _ in range(r.randint(2, 4)))]
        texts = [ours(name, given, r) for name, given in parts]

        def make(optimizer):
            return [getattr(S, name)(optimizer, **given) for name, given in parts]
        if kind == "SequentialLR":
            milestones = sorted(r.sample(range(1, steps), len(parts) - 1))
            text = f"sequence({', '.join(texts)}, milestones=({', '.join(map(str, milestones))}))"
            self.compare_schedule(kind, text, steps, base,
                                  lambda o: S.SequentialLR(o, make(o), milestones), seed)
        else:
            self.compare_schedule(kind, f"product({', '.join(texts)})", steps, base,
                                  lambda o: S.ChainedScheduler(make(o)), seed)

    def plateau(self, seed):
        r = Draw(f"plateau {seed}")
        given = dict(mode=r.choice(["min", "max"]), factor=r.uniform(0.05, 0.95), patience=r.randint(0, 5),
                     threshold=r.choice([0.0, 1e-4, 0.1, r.uniform(0, 0.3)]), threshold_mode=r.choice(["rel", "abs"]),
                     cooldown=r.randint(0, 4), min_lr=r.choice([0.0, r.log(1e-4, 1)]), eps=r.choice([1e-8, r.log(1e-9, 1e-1)]))
        steps, base = r.choice([2, 30, 100]), r.log(1e-2, 2)
        # A coarse grid, below zero too, makes ties.
        metrics = [round(r.uniform(-0.3, 1), r.choice([1, 1, 3])) for _ in range(steps - 1)]
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
        scheduler = S.ReduceLROnPlateau(optimizer, **given)
        lrs = [base]
        for metric in metrics:
            scheduler.step(metric)
            lrs.append(optimizer.param_groups[0]["lr"])
        words = ["schedule", text_of("plateau", given, r), "--steps", str(steps), "--lr", str(base)]
        try:
            result, _ = self.gradus(words, f"plateau-{seed}", metrics, "--metrics")
            self.verdict("ReduceLROnPlateau", rate_gap(result["lr"], lrs), self.args.tolerance,
                         f"{words} metrics {metrics} seed {seed}")
        except RuntimeError as problem:
            self.failures.append(("ReduceLROnPlateau", f"{problem}: {words}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradus", default="target/release/gradus", help="the program to test")
    parser.add_argument("--cases", type=int, default=20, help="random cases of each rule and schedule")
    parser.add_argument("--seed", type=int, default=0, help="first seed; case i has seed + i")
    parser.add_argument("--tolerance", type=float, default=1e-10, help="largest relative error")
    parser.add_argument("--only", help="names to test, with commas between: Adam,lion,StepLR,chains,plateau")
    parser.add_argument("--f32", action="store_true", help="also report how far --dtype f32 is from f64")
    args = parser.parse_args()
    trial = Trial(args)
    only = set(args.only.split(",")) if args.only else None
    jobs = [(name, lambda seed, name=name: trial.one_rule("torch", name, seed)) for name in TORCH]
    jobs += [(name, lambda seed, name=name: trial.one_rule("optax", name, seed)) for name in OPTAX]
    jobs += [("chains", trial.one_chain)]
    jobs += [(name, lambda seed, name=name: trial.one_schedule(name, seed)) for name in SCHEDULES]
    jobs += [(kind, lambda seed, kind=kind: trial.several(kind, seed)) for kind in ("SequentialLR", "ChainedScheduler")]
    jobs += [("plateau", trial.plateau)]
    jobs = [(job, args.seed + i) for name, job in jobs if only is None or name in only for i in range(args.cases)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(job, seed) for job, seed in jobs]:
            done.result()
    for kind, count in trial.count.items():
        print(f"{kind:32} {count:4} cases, largest error {trial.worst[kind]:.1e}")
    for kind, told in trial.failures:
        print(f"DISAGREES {kind}: {told}")
    print(f"{sum(trial.count.values())} comparisons, {len(trial.failures)} disagreements")
    return 1 if trial.failures or not trial.count else 0


if __name__ == "__main__":
    sys.exit(main())
