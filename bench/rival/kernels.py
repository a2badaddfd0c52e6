"""PyTorch's kernels for bench/kernels.ts: a question a line on stdin, an answer a line on stdout.

{"do": "prepare", "case": {...}, "threads": n, "dtype": "f32" or "bf16"} -> {"seconds": one warm call}
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
        return lambda: F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), w, b, 1, pad)
    return lambda: F.conv2d(x, w, b, c["stride"], pad)


def fused(c):
    x = torch.randn(c["frames"], c["inputs"], c["rows"], c["cols"])
    x = x.to(memory_format=torch.channels_last)
    w = torch.randn(c["outputs"], c["inputs"], 3, 3) * 0.02
    w = w.to(memory_format=torch.channels_last)
    b, gamma, beta = torch.randn(c["outputs"]), torch.randn(c["inputs"]), torch.randn(c["inputs"])
    return lambda: F.conv2d(F.silu(F.group_norm(x, 32, gamma, beta)), w, b, 1, 1)


def linear(c):
    x, w = torch.randn(c["rows"], c["inputs"]), torch.randn(c["outputs"], c["inputs"]) * 0.02
    b = torch.randn(c["outputs"])
    return lambda: F.linear(x, w, b)


def geglu(c):
    x, w = torch.randn(c["rows"], c["inputs"]), torch.randn(2 * c["outputs"], c["inputs"]) * 0.02
    b = torch.randn(2 * c["outputs"])

    def run():
        value, gate = F.linear(x, w, b).chunk(2, dim=-1)
        return value * F.gelu(gate)

    return run


def attention(c):
    def heads(batch, tokens):
        shape = (batch, tokens, c["heads"], c["size"])
        return torch.randn(shape).transpose(1, 2)

    q = heads(c["batch"], c["tokens"])
    k, v = (heads(c["batch"], c["keys"]) for _ in range(2))
    return lambda: F.scaled_dot_product_attention(q, k, v)


def pointwise(c):
    x, y = torch.randn(c["shape"]), torch.randn(c["shape"])
    channels = c["shape"][3]
    gamma, beta = torch.randn(channels), torch.randn(channels)
    image = x.permute(0, 3, 1, 2)  # the same memory, channels last
    return {
        "copy": lambda: y.copy_(x),
        "silu": lambda: F.silu(x),
        "add": lambda: x + y,
        "group_norm": lambda: F.silu(F.group_norm(image, 32, gamma, beta)),
        "layer_norm": lambda: F.layer_norm(x, (channels,), gamma, beta),
    }[c["op"]]


BUILDERS = {"conv": conv, "fused": fused, "linear": linear, "geglu": geglu, "attention": attention}


def timed(run, repeats):
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats


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
            run = BUILDERS.get(case["op"], pointwise)(case)
            run()
            answer = {"seconds": timed(run, 1)}
        else:
            answer = {"seconds": timed(run, question["repeats"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    with torch.inference_mode():
        main()
