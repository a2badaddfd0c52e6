"""Times of PyTorch's kernels (cuBLAS, cuDNN, SDPA) for the cases that bench/gpu/kernel-cases.ts names: JSON on stdin, JSON on stdout.
stdin: {"cases": [...], "device": "cuda" or "cpu", "small": bool}. stdout's last line: {"results": [...], "copy": bytes a second} or {"missing": why}."""
import json

from gpu_request import opened

request, torch, device = opened(17)
F = torch.nn.functional
small = request['small']
if device == 'cuda':
    torch.backends.cudnn.benchmark = True
half = torch.float16 if device == 'cuda' else torch.float32
ROTATED, MOST_SETS = (0 if small else 200e6), 8


def timed(work, flops, size):
    """Median milliseconds of work(i) by events, over a run long beside the gaps between launches."""
    import statistics
    import time
    repeats = 2 if small else int(max(8, min(512, 4e12 / flops, 40e9 / size)))
    times = []
    for i in range(8):
        work(i)
    for _ in range(1 if small else 7):
        if device == 'cuda':
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for i in range(repeats):
                work(i)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / repeats)
        else:
            start = time.perf_counter()
            for i in range(repeats):
                work(i)
            times.append((time.perf_counter() - start) * 1e3 / repeats)
    return statistics.median(times)


def sets_of(make, size):
    count = int(max(1, min(MOST_SETS, -(-ROTATED // size))))
    return [make() for _ in range(count)]


def random(*shape):
    return torch.randn(*shape, device=device, dtype=half)


def gemm(c):
    flops, size = 2 * c['rows'] * c['inputs'] * c['outputs'], 2 * c['rows'] * (c['inputs'] + c['outputs'])
    weight, bias = random(c['outputs'], c['inputs']), random(c['outputs'])
    inputs = sets_of(lambda: random(c['rows'], c['inputs']), size)
    return timed(lambda i: F.linear(inputs[i % len(inputs)], weight, bias), flops, size), 'cuBLAS'


def conv(c):
    kh, kw = c['kernel']
    pixels = c['frames'] * c['rows'] * c['cols']
    flops, size = 2 * pixels * c['inputs'] * c['outputs'] * kh * kw, 2 * pixels * (c['inputs'] + c['outputs'])
    last = dict(memory_format=torch.channels_last)
    weight, bias = random(c['outputs'], c['inputs'], kh, kw).to(**last), random(c['outputs'])
    inputs = sets_of(lambda: random(c['frames'], c['inputs'], c['rows'], c['cols']).to(**last), size)
    pad = (kh // 2, kw // 2)
    return timed(lambda i: F.conv2d(inputs[i % len(inputs)], weight, bias, padding=pad), flops, size), 'cuDNN, channels last'


def best_attention(inputs, flops, size, shape=lambda x: x, back=lambda x: x):
    """The fastest of SDPA's backends."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    best = None
    kinds = ['FLASH_ATTENTION', 'CUDNN_ATTENTION', 'EFFICIENT_ATTENTION', 'MATH'] if device == 'cuda' else ['FLASH_ATTENTION', 'MATH']
    for kind in kinds:
        # The plain form needs all scores at once.
        if kind == 'MATH' and best is not None:
            continue

        def work(i):
            q, k, v = (shape(x) for x in inputs[i % len(inputs)])
            with sdpa_kernel(getattr(SDPBackend, kind)):
                return back(F.scaled_dot_product_attention(q, k, v))
        try:
            time = timed(work, flops, size)
        except RuntimeError:
            continue
        if best is None or time < best[0]:
            best = (time, kind.lower())
    return best


def attention(c):
    heads, d = c['heads'], c['headDim']
    flops = 4 * c['frames'] * c['tokens'] * c['keys'] * heads * d
    size = 4 * c['frames'] * heads * d * (c['tokens'] + c['keys'])
    # As networks have them: tokens outside, heads inside.
    inputs = sets_of(lambda: [random(c['frames'], n, heads, d).transpose(1, 2) for n in (c['tokens'], c['keys'], c['keys'])], size)
    return best_attention(inputs, flops, size)


def temporal(c):
    heads, d, pixels, frames = c['heads'], c['headDim'], c['tokens'], c['frames']
    flops, size = 4 * frames * frames * pixels * heads * d, 8 * frames * pixels * heads * d
    inputs = sets_of(lambda: [random(frames, pixels, heads * d) for _ in range(3)], size)
    # As diffusers goes about it: pixels outside, then back.
    shape = lambda x: x.permute(1, 0, 2).reshape(pixels, frames, heads, d).transpose(1, 2)
    back = lambda y: y.transpose(1, 2).reshape(pixels, frames, heads * d).permute(1, 0, 2).contiguous()
    return best_attention(inputs, flops, size, shape, back)


def norm(c):
    frames, pixels, channels = c['frames'], c['pixels'], c['channels']
    values = frames * pixels * channels
    weight, bias = random(channels), random(channels)
    if c['layer']:
        inputs = sets_of(lambda: random(frames, pixels, channels), 4 * values)
        return timed(lambda i: F.layer_norm(inputs[i % len(inputs)], (channels,), weight, bias), 8 * values, 4 * values), 'layer_norm'
    inputs = sets_of(lambda: random(frames, channels, pixels, 1).to(memory_format=torch.channels_last), 4 * values)
    return timed(lambda i: F.silu(F.group_norm(inputs[i % len(inputs)], 32, weight, bias)), 8 * values, 6 * values), 'group_norm and silu'


def copy_rate():
    count = 1 << (16 if small else 30)
    source, out = random(count), random(count)
    return 4 * count / (timed(lambda i: out.copy_(source), 1, 4 * count) / 1e3)


KINDS = dict(gemm=gemm, conv=conv, attention=attention, temporal=temporal, norm=norm)
results = []
for case in request['cases']:
    found = KINDS[case['kind']](case)
    results.append(dict(name=case['name'], milliseconds=found and found[0], what=found[1] if found else 'no backend takes it'))
    if device == 'cuda':
        torch.cuda.empty_cache()
name = torch.cuda.get_device_name() if device == 'cuda' else 'CPU'
print(json.dumps(dict(results=results, copy=copy_rate(), torch=torch.__version__, device=name)))
