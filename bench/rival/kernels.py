"""PyTorch's kernels for bench/kernels.ts: a question a line on stdin, an answer a line on stdout.

{"do": "prepare", "case": {...}, "threads": n, "dtype": "f32" or "bf16"} -> {"seconds": one warm call,
  "what": the fastest way of those that PyTorch offers, oneDNN by name among them}
{"do": "time", "repeats": n}                   -> {"seconds": the mean of n calls}
{"do": "about"}                                -> {"torch": version}
"""

import json
import sys
import time

import torch
import torch.nn.functional as F


def conv(c):
    x = torch.randn(c["frames"], c["inputs"], c["rows"], c["cols"])
    x = x.to(memory_format=torch.channels_last)
    w = torch.randn(c["outputs"], c["inputs"], c["kernel"], c["kernel"]) * 0.02
    w = w.to(memory_format=torch.channels_last)
    b = torch.randn(c["outputs"])
    pad = (c["kernel"] - 1) // 2
    if c["upsampled"]:
        grown = lambda: F.interpolate(x, scale_factor=2.0, mode="nearest")
        return {
            "conv2d": lambda: F.conv2d(grown(), w, b, 1, pad),
            "oneDNN": lambda: onednn_conv(grown(), w, b, 1, pad),
        }
    return {
        "conv2d": lambda: F.conv2d(x, w, b, c["stride"], pad),
        "oneDNN": lambda: onednn_conv(x, w, b, c["stride"], pad),
    }


def onednn_conv(x, w, b, stride, pad):
    """The library itself, where F.conv2d may take another way on one thread."""
    return torch.ops.mkldnn._convolution_pointwise(
        x, w, b, [pad, pad], [stride, stride], [1, 1], 1, "none", [], ""
    )


def fused(c):
    x = torch.randn(c["frames"], c["inputs"], c["rows"], c["cols"])
    x = x.to(memory_format=torch.channels_last)
    w = torch.randn(c["outputs"], c["inputs"], 3, 3) * 0.02
    w = w.to(memory_format=torch.channels_last)
    b, gamma, beta = torch.randn(c["outputs"]), torch.randn(c["inputs"]), torch.randn(c["inputs"])
    normed = lambda: F.silu(F.group_norm(x, 32, gamma, beta))
    return {
        "conv2d": lambda: F.conv2d(normed(), w, b, 1, 1),
        "oneDNN": lambda: onednn_conv(normed(), w, b, 1, 1),
    }


def linear(c):
    x, w = torch.randn(c["rows"], c["inputs"]), torch.randn(c["outputs"], c["inputs"]) * 0.02
    b = torch.randn(c["outputs"])
    return {"linear": lambda: F.linear(x, w, b), "oneDNN": onednn_linear(x, w, b)}


def onednn_linear(x, w, b):
    """The library itself, with weights in the order that it likes."""
    packed = torch.ops.mkldnn._reorder_linear_weight(w, x.shape[0])
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, b, "none", [], "")


def geglu(c):
    x, w = torch.randn(c["rows"], c["inputs"]), torch.randn(2 * c["outputs"], c["inputs"]) * 0.02
    b = torch.randn(2 * c["outputs"])

    def gated(product):
        value, gate = product().chunk(2, dim=-1)
        return value * F.gelu(gate)

    packed = onednn_linear(x, w, b)
    return {"linear": lambda: gated(lambda: F.linear(x, w, b)), "oneDNN": lambda: gated(packed)}


def attention(c):
    def heads(batch, tokens):
        shape = (batch, tokens, c["heads"], c["size"])
        return torch.randn(shape).transpose(1, 2)

    q = heads(c["batch"], c["tokens"])
    k, v = (heads(c["batch"], c["keys"]) for _ in range(2))
    return {"sdpa": lambda: F.scaled_dot_product_attention(q, k, v)}


def pointwise(c):
    x, y = torch.randn(c["shape"]), torch.randn(c["shape"])
    channels = c["shape"][3]
    gamma, beta = torch.randn(channels), torch.randn(channels)
    image = x.permute(0, 3, 1, 2)  # the same memory, channels last
    out = torch.empty_like(x)
    # Into memory that is there, as ours, where PyTorch can; new memory costs more than the work.
    return {
        "copy": {"copy_": lambda: y.copy_(x)},
        "silu": {
            "silu": lambda: F.silu(x),
            "silu.out": lambda: torch.ops.aten.silu.out(x, out=out),
        },
        "add": {"add": lambda: x + y, "add.out": lambda: torch.add(x, y, out=out)},
        "group_norm": {
            "group_norm, silu": lambda: F.silu(F.group_norm(image, 32, gamma, beta)),
            "group_norm, silu in place": lambda: F.silu(
                F.group_norm(image, 32, gamma, beta), inplace=True
            ),
        },
        "layer_norm": {"layer_norm": lambda: F.layer_norm(x, (channels,), gamma, beta)},
    }[c["op"]]


BUILDERS = {"conv": conv, "fused": fused, "linear": linear, "geglu": geglu, "attention": attention}


def timed(run, repeats):
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats


def fastest(ways):
    """The way that is fastest of three calls each, and its name."""
    best = None
    for name, run in ways.items():
        run()
        seconds = min(timed(run, 1) for _ in range(3))
        if best is None or seconds < best[0]:
            best = (seconds, name, run)
    return best


def main():
    run = None
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "about":
            answer = {"torch": torch.__version__}
        elif question["do"] == "prepare":
            torch.set_num_threads(question["threads"])
            half = question.get("dtype") == "bf16"
            torch.set_default_dtype(torch.bfloat16 if half else torch.float32)
            case = question["case"]
            seconds, what, run = fastest(BUILDERS.get(case["op"], pointwise)(case))
            answer = {"seconds": seconds, "what": what}
        else:
            answer = {"seconds": timed(run, question["repeats"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    with torch.inference_mode():
        main()
