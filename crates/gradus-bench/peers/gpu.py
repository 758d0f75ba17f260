"""What a machine with a GPU is asked, in one command with one table: parity, optimizer steps, training and inference,
and the race to 94 % on CIFAR-10 against PyTorch on the same files.

    cargo build --release --features cuda
    pip install torch pillow numpy
    python crates/gradus-bench/peers/gpu.py --gradus target/release/gradus --device cuda \\
        --data folder:cifar10-jpeg.tar.xz --seeds 10 --out gpu

Training and the race are measured in f32 and, on CUDA where `gradus doctor` finds it, in bf16; `--precision` says otherwise.

Writes OUT.md and OUT.json. Each part is a process of its own; one that fails is a line of the table with its last
words, and the others go on. `--parts` chooses; `--preset`, `--epochs`, `--set` and `--torch-args` make a trial small:

    … --device flex --parts parity,race --seeds 1 --epochs 1 --limit-batches 2 --torch-args "--steps 2"
"""
import argparse, json, pathlib, platform, statistics, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["doctor", "parity", "optim", "backends", "race"]


def call(command, limit):
    """The JSON that a command prints, or what went wrong; and its seconds."""
    print("$", *command, file=sys.stderr, flush=True)
    begun = time.perf_counter()
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit} s"}, limit
    except OSError as error:
        sys.exit(f"{command[0]}: {error}")
    seconds = time.perf_counter() - begun
    lines = done.stdout.strip()
    try:
        return json.loads(lines), seconds
    except ValueError:
        try:
            return json.loads(lines.splitlines()[-1]), seconds
        except (ValueError, IndexError):
            said = (done.stderr.strip() or lines or "nothing was said").splitlines()
            words = next((line for line in said if line.startswith("error")), said[-1])
            return {"error": f"exit {done.returncode}: {words}"}, seconds


def doctor(args):
    found, _ = call([args.gradus, "doctor", "--json"], args.limit)
    if "error" in found:
        return found, [("doctor", found["error"])]
    rows = []
    for device in found["devices"]:
        speed = device["speed"]
        rows.append((device["name"], f"GEMM {speed['gemm_gflops']:.0f} GFLOP/s, copy {speed['copy_gb_per_second']:.0f} GB/s, "
                     f"launch {speed['launch_microseconds']:.1f} µs" if speed else f"FAILED: {device['error']}"))
    return found, rows


def parity(args):
    found, rows = {}, []
    other = "ndarray" if args.device == "flex" else args.device
    for model in ("cnn", "airnet"):
        out, seconds = call([args.gradus, "parity", "--devices", f"flex,{other}", "--model", model, "--steps",
                             args.parity_steps, "--json"], args.limit)
        found[model] = out
        first = out.get("first_divergence")
        rows.append((f"parity flex,{other} {model}", out.get("error") or
                     (f"agree over {args.parity_steps} steps" if out["agree"] else f"DIVERGE: {json.dumps(first)}") + f", {seconds:.0f} s"))
    return found, rows


def optim(args):
    found, _ = call([args.gradus, "bench", "optim", "--device", args.device, "--python", args.python, "--large", "--json"], args.limit)
    if "error" in found:
        return found, [("bench optim", found["error"])]
    copy = found["bandwidth"]["copy"]
    rows = [(f"{line['case']}, {line['side']}, {line['optimizer']}",
             f"{line['ms']:.3f} ms, {line['gb_per_second']:.0f} GB/s = {100 * line['gb_per_second'] / copy:.0f} % of copy, "
             f"{line['ratio']:.2f} × ours") for line in found["lines"]]
    return found, rows


def precisions(args):
    """What is asked for, or f32 and on CUDA bf16 too, if the device has it."""
    if args.precision:
        return args.precision.split(",")
    if not args.device.startswith("cuda"):
        return ["f32"]
    found, _ = call([args.gradus, "doctor", "--json"], args.limit)
    names = {args.device, f"{args.device}:0"}
    able = [(device.get("speed") or {}).get("precisions", []) for device in found.get("devices", []) if device.get("name") in names]
    return ["f32", "bf16"] if any("bf16" in listed for listed in able) else ["f32"]


def backends(args):
    out = pathlib.Path(str(args.out) + "-backends")
    wanted = precisions(args)
    models = [word for precision in wanted for model in ("cnn", "airnet --width 32,64,64")
              for word in ("--model", model if precision == "f32" else f"{model} --precision {precision}")]
    devices = ",".join(dict.fromkeys(["flex", args.device]))
    # A first step compiles and tunes kernels, for minutes if nothing was tuned before.
    found, seconds = call([args.gradus, "bench", "backends", "--devices", devices, *models, "--peers", "torch,burn", "--limit", 600,
                           "--python", args.python, "--out", out.with_suffix(".md"), "--figure", out.with_suffix(".svg"), "--json"],
                          args.limit * len(wanted))
    return found, [("bench backends", found.get("error") or f"{out}.md, {seconds:.0f} s")]


def race(args):
    small = ["--limit-batches", args.limit_batches] if args.limit_batches else []
    small += ["--epochs", args.epochs] if args.epochs else []
    for setting in args.set:
        small += ["--set", setting]
    wanted = precisions(args)
    ours, theirs = {precision: [] for precision in wanted}, []
    path = args.data.removeprefix("folder:")
    # The first run compiles and tunes kernels; it is not counted, as the warm-up of the other side is not.
    for seed in range(0, args.seeds + 1):
        for precision in wanted:
            folder = pathlib.Path(f"{args.out}-runs") / f"{int(time.time())}-{precision}-{seed}"
            out, _ = call([args.gradus, "train", "--data", args.data, "--preset", args.preset, "--device", args.device, "--precision",
                           precision, "--seed", seed, "--out", folder, "--no-report", "--json", *small], args.limit)
            if seed > 0 or "error" in out:
                ours[precision].append(out)
        if seed > 0:
            peer = args.torch_device or ("cuda" if args.device.startswith("cuda") else "cpu")
            out, _ = call([args.python, HERE / "airbench_torch.py", "--data", path, "--device", peer, "--seeds", 1, "--first-seed", seed,
                           *args.torch_args.split()], args.limit)
            theirs.append(out)
    rows = []
    sides = [(f"gradus {precision}", ours[precision], "test_accuracy") for precision in wanted]
    for name, runs, accuracy in (*sides, ("torch", theirs, "accuracy")):
        good = [run for run in runs if "error" not in run]
        rows += [(f"race, {name}", run["error"]) for run in runs if "error" in run]
        if good:
            reached, seconds = [run[accuracy] for run in good], [run["seconds"] for run in good]
            spread = statistics.stdev(reached) if len(reached) > 1 else float("nan")
            rows.append((f"race, {name}, {len(good)} seeds", f"accuracy {statistics.mean(reached):.4f} ± {spread:.4f}, "
                         f"median {statistics.median(seconds):.2f} s" +
                         (f", of which training {statistics.median(run['train_seconds'] for run in good):.2f} s" if name != "torch" else "")))
    return {"gradus": ours, "torch": theirs}, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradus", default="target/release/gradus")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--torch-device", help="default: cuda where --device is, else cpu")
    parser.add_argument("--data", default="cifar10", help="as `gradus train --data`; PyTorch reads a folder or an archive")
    parser.add_argument("--preset", default="airbench94")
    parser.add_argument("--precision", help="some of f32,bf16,f16; default: f32, and on CUDA bf16 where it is there")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit-batches", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--torch-args", default="--compile")
    parser.add_argument("--parity-steps", type=int, default=50)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one part")
    parser.add_argument("--out", default="gpu")
    args = parser.parse_args()
    parts = args.parts.split(",")
    wrong = [part for part in parts if part not in PARTS]
    if wrong:
        sys.exit(f"--parts: {wrong[0]}: expected some of {', '.join(PARTS)}")
    found, table = {"machine": platform.platform(), "command": sys.argv}, []
    for part in parts:
        found[part], rows = globals()[part](args)
        table += rows
        lines = [f"# {args.device} beside PyTorch\n", "    " + " ".join(sys.argv) + "\n", "| what | measured |", "|---|---|"]
        text = "\n".join(lines + [f"| {what} | {value} |" for what, value in table]) + "\n"
        pathlib.Path(f"{args.out}.md").write_text(text)
        pathlib.Path(f"{args.out}.json").write_text(json.dumps(found, indent=1))
    print(text)


if __name__ == "__main__":
    main()
