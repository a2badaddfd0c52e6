"""Whole networks in diffusers for bench/step.ts: a question a line on stdin, an answer a line on stdout.

{"do": "load", "network": ..., "weights": file, "threads": n, "way": {...}, ...} -> {"weightBytes": n}
    way: {"channelsLast": bool, "compile": bool, "half": bool}: half is autocast to bfloat16
{"do": "step", "out": file, if wanted} -> {"seconds": t, "activationBytes": most memory beyond what was held before}
{"do": "about"} -> {"torch": version, "diffusers": version}

Attention is torch's scaled_dot_product_attention, diffusers' default.
"""

import contextlib
import gc
import json
import os
import re
import sys
import time

sys.path.pop(0)  # kernels.py beside this file is not the package of that name

import diffusers
import torch
from safetensors import safe_open


@contextlib.contextmanager
def without_init():
    """Modules with whatever memory holds: the weights come from the file."""
    names = ("kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_", "xavier_uniform_")
    kept = {name: getattr(torch.nn.init, name) for name in names}
    for name in names:
        setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
    yield
    for name, function in kept.items():
        setattr(torch.nn.init, name, function)


def fill(module, file, prefix):
    """Copies the file's weights into a module, one by one. Missing ones must be computed tables."""
    keys = set(file.keys())
    for name, tensor in module.state_dict().items():
        key = f"{prefix}/{name}"
        if key in keys:
            tensor.copy_(file.get_tensor(key).reshape(tensor.shape))
        elif not name.endswith("pos_embed.pe"):
            raise KeyError(f"{key} is not among the weights")


def config(question, part):
    with open(os.path.join(question["configs"], part, "config.json")) as file:
        return {k: v for k, v in json.load(file).items() if not k.startswith("_")}


def animatediff(q, file):
    with without_init():
        unet = diffusers.UNet2DConditionModel.from_config(config(q, "unet"))
        fill(unet, file, "unet")
        adapter = diffusers.MotionAdapter.from_config(config(q, "motion_adapter"))
        fill(adapter, file, "motion_adapter")
        model = diffusers.UNetMotionModel.from_unet2d(unet, adapter)
    sample = file.get_tensor("input/sample").permute(3, 0, 1, 2)[None].repeat(2, 1, 1, 1, 1)
    sample = sample.contiguous()
    frames = sample.shape[2]  # each with its own copy of the text, as the pipeline has it
    text = file.get_tensor("input/encoder_hidden_states")[None].repeat(2 * frames, 1, 1)

    def step():
        return model(sample, 500, encoder_hidden_states=text, return_dict=False)[0]

    return model, step, lambda y: y[0].permute(1, 2, 3, 0)


def svd(q, file):
    with without_init():
        model = diffusers.UNetSpatioTemporalConditionModel.from_config(config(q, "unet"))
        fill(model, file, "unet")
    sample = file.get_tensor("input/sample").permute(0, 3, 1, 2)[None].repeat(2, 1, 1, 1, 1)
    image = file.get_tensor("input/encoder_hidden_states")[None].repeat(2, 1, 1)
    ids = file.get_tensor("input/added_time_ids")[None].repeat(2, 1)
    sample = sample.contiguous()

    def step():
        return model(sample, 500.0, image, ids, return_dict=False)[0]

    return model, step, lambda y: y[0].permute(0, 2, 3, 1)


def vae(q, file):
    with without_init():
        model = diffusers.AutoencoderKL.from_config(config(q, "vae"))
    keys = set(file.keys())
    for name, tensor in model.state_dict().items():
        if f"vae/{name}" in keys:
            tensor.copy_(file.get_tensor(f"vae/{name}").reshape(tensor.shape))
        elif name.startswith(("decoder", "post_quant")):
            raise KeyError(f"vae/{name} is not among the weights")
    latents = file.get_tensor("input/latents").permute(0, 3, 1, 2).contiguous()
    return model, lambda: model.decode(latents, return_dict=False)[0], lambda y: y[0].permute(1, 2, 0)


NETWORKS = {"animatediff": animatediff, "svd": svd, "vae": vae}


def memory():
    with open("/proc/self/status") as file:
        text = file.read()
    return tuple(1024 * int(re.search(rf"^{n}:\s+(\d+)", text, re.M)[1]) for n in ("VmRSS", "VmHWM"))


def main():
    step, rows, half = None, None, False
    for line in sys.stdin:
        q = json.loads(line)
        if q["do"] == "about":
            answer = {"torch": torch.__version__, "diffusers": diffusers.__version__}
        elif q["do"] == "load":
            torch.set_num_threads(q["threads"])
            with safe_open(q["weights"], "pt") as file:
                model, step, rows = NETWORKS[q["network"]](q, file)
            model.eval()
            half = q["way"]["half"]
            if q["way"]["channelsLast"]:
                for module in model.modules():  # one by one: those over time have five axes
                    if isinstance(module, torch.nn.Conv2d):
                        module.to(memory_format=torch.channels_last)
            if q["way"]["compile"]:
                model.compile()
                if q["network"] == "vae":
                    model.decoder.compile()
            gc.collect()
            answer = {"weightBytes": sum(p.numel() * 4 for p in model.parameters())}
        else:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = memory()[0]
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                output = step()
            seconds = time.perf_counter() - begin
            answer = {"seconds": seconds, "activationBytes": memory()[1] - before}
            if q.get("out"):
                rows(output).float().contiguous().numpy().tofile(q["out"])
            del output
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
