"""diffusers on the networks that bench/gpu compares with: JSON on stdin, JSON on stdout's last line.
stdin: {"what": "step" or "video", "model", "folder", "exchange", "frames", "height", "width", "steps", "decodeChunk", "device", "seconds"}.
stdout: {"variants": {name: {...}}} or {"missing": why}. Weights are the folder's; parts of it that Sluice does not use stay as they were drawn."""
import gc
import json
import os
import statistics
import time

from gpu_request import opened, require

request, torch, device = opened(5)
np = require('numpy', 'NumPy')
diffusers = require('diffusers', 'diffusers')
transformers = require('transformers', 'diffusers')
load_file = require('safetensors.torch', 'diffusers').load_file
if device == 'cpu':
    torch.set_num_threads(1)
dtype = torch.float16 if device == 'cuda' else torch.float32
folder, exchange = request['folder'], request['exchange']
frames, height, width, steps = (request[key] for key in ('frames', 'height', 'width', 'steps'))
deadline = time.time() + request['seconds']


def load(cls, name, on=device):
    """A component of the folder: its configuration, and those weights that are there."""
    path = os.path.join(folder, name)
    with torch.device(on):
        if issubclass(cls, transformers.PreTrainedModel):
            module = cls(cls.config_class.from_pretrained(path))
        else:
            module = cls.from_config(cls.load_config(path))
    for file in sorted(os.listdir(path)):
        if not file.endswith('.safetensors'):
            continue
        found = load_file(os.path.join(path, file))
        unexpected = module.load_state_dict(found, strict=False).unexpected_keys
        if unexpected and issubclass(cls, transformers.PreTrainedModel):  # written with or without the model's prefix
            prefix = module.base_model_prefix + '.'
            moved = {k[len(prefix):] if k.startswith(prefix) else prefix + k: v for k, v in found.items()}
            unexpected = module.load_state_dict(moved, strict=False).unexpected_keys
        if unexpected:
            raise ValueError(f'{name}: weights that it does not have: {unexpected[:3]}')
    return module.to(dtype).eval()


def load_unet(on=device):
    if request['model'] == 'animatediff':
        unet = load(diffusers.UNet2DConditionModel, 'unet', on)
        adapter = load(diffusers.MotionAdapter, 'motion_adapter', on)
        return diffusers.UNetMotionModel.from_unet2d(unet, adapter).to(dtype).eval()
    return load(diffusers.UNetSpatioTemporalConditionModel, 'unet', on)


def sync():
    if device == 'cuda':
        torch.cuda.synchronize()


def reset():
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks():
    if device != 'cuda':
        return dict(allocated=None, reserved=None)
    return dict(allocated=torch.cuda.max_memory_allocated(), reserved=torch.cuda.max_memory_reserved())


def attempt(variants, name, work):
    """A variant's numbers, or why it has none: out of memory is a result."""
    if time.time() > deadline:
        variants[name] = dict(failed='no time was left')
        return
    reset()
    try:
        variants[name] = work()
    except Exception as error:  # whatever diffusers or the compiler throw
        variants[name] = dict(failed=f'{type(error).__name__}: {str(error)[:200]}')


# One pass through the UNet ------------------------------------------------------------------------

def given(name):
    with open(os.path.join(exchange, 'shapes.json')) as file:
        shape = json.load(file)[name]
    values = np.fromfile(os.path.join(exchange, f'{name}.f32'), dtype=np.float32)
    return torch.from_numpy(values.reshape(shape)).to(device)


def step_call():
    """Keyword arguments of a pass, and what brings its output into our layout."""
    sample, context = given('sample').to(dtype), given('encoder_hidden_states').to(dtype)
    timestep = given('timestep')[0]
    if request['model'] == 'animatediff':
        call = dict(sample=sample.permute(3, 0, 1, 2)[None], timestep=timestep,
                    encoder_hidden_states=context[None].repeat(frames, 1, 1))  # once a frame, as the pipeline has it
        return call, lambda out: out[0].permute(1, 2, 3, 0)
    call = dict(sample=sample.permute(0, 3, 1, 2)[None], timestep=timestep, encoder_hidden_states=context[None],
                added_time_ids=given('added_time_ids')[None].to(dtype))
    return call, lambda out: out[0].permute(0, 2, 3, 1)


def step():
    unet = load_unet()
    call, ours = step_call()
    expected = np.fromfile(os.path.join(exchange, 'output.f32'), dtype=np.float32)
    variants = {}

    def passes(run):
        out = None
        for _ in range(2):
            out = run(**call).sample
        sync()
        reset()
        times = []
        for _ in range(steps):
            sync()
            start = time.perf_counter()
            out = run(**call).sample
            sync()
            times.append((time.perf_counter() - start) * 1e3)
        values = ours(out).float().cpu().numpy().reshape(-1)
        difference = float(np.sqrt(np.mean((values - expected) ** 2)) / values.std())
        return dict(milliseconds=statistics.median(times), difference=difference, **peaks())

    def chunked():
        unet.to(memory_format=torch.contiguous_format)
        unet.enable_forward_chunking(1, 1)
        return passes(unet)

    attempt(variants, 'plain', lambda: passes(unet))
    if device == 'cuda':
        unet.to(memory_format=torch.channels_last)
        attempt(variants, 'channels last', lambda: passes(unet))
        attempt(variants, 'channels last, compiled', lambda: passes(torch.compile(unet)))
    # Last: not every network can be told to stop it.
    attempt(variants, 'forward chunking', chunked)
    return variants


# A whole video ------------------------------------------------------------------------------------

def pipeline(on):
    scheduler_of = lambda cls: cls.from_config(cls.load_config(os.path.join(folder, 'scheduler')))
    if request['model'] == 'animatediff':
        unet = load(diffusers.UNet2DConditionModel, 'unet', on)
        return diffusers.AnimateDiffPipeline(
            vae=load(diffusers.AutoencoderKL, 'vae', on), text_encoder=load(transformers.CLIPTextModel, 'text_encoder', on), tokenizer=None,
            unet=unet, motion_adapter=load(diffusers.MotionAdapter, 'motion_adapter', on), scheduler=scheduler_of(diffusers.DDIMScheduler))
    return diffusers.StableVideoDiffusionPipeline(
        vae=load(diffusers.AutoencoderKLTemporalDecoder, 'vae', on),
        image_encoder=load(transformers.CLIPVisionModelWithProjection, 'image_encoder', on),
        unet=load(diffusers.UNetSpatioTemporalConditionModel, 'unet', on), scheduler=scheduler_of(diffusers.EulerDiscreteScheduler),
        feature_extractor=transformers.CLIPImageProcessor.from_pretrained(os.path.join(folder, 'feature_extractor')))


def generate(pipe, chunk):
    pipe.set_progress_bar_config(disable=True)
    ends = []

    def on_step(_pipe, index, _timestep, kept):
        sync()
        ends.append(time.perf_counter())
        return kept

    size = dict(num_frames=frames, height=height, width=width, num_inference_steps=steps, callback_on_step_end=on_step)
    sync()
    reset()
    start = time.perf_counter()
    if request['model'] == 'animatediff':
        config = pipe.text_encoder.config
        embeds = lambda: torch.randn(1, config.max_position_embeddings, config.hidden_size, dtype=dtype, device=device)
        pipe(prompt_embeds=embeds(), negative_prompt_embeds=embeds(), guidance_scale=7.5, decode_chunk_size=chunk, **size)
    else:
        from PIL import Image
        image = Image.fromarray(np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8))
        pipe(image, decode_chunk_size=chunk, **size)
    sync()
    seconds = time.perf_counter() - start
    first = min(2, len(ends) - 2)
    per_step = (ends[-1] - ends[first]) / (len(ends) - 1 - first) if len(ends) > 1 else None
    return dict(seconds=seconds, secondsPerStep=per_step, **peaks())


def video():
    variants = {}
    everything = 16 if request['model'] == 'animatediff' else frames

    def plain():
        return generate(pipeline(device), everything)

    def lean():
        pipe = pipeline(device)
        if request['model'] == 'animatediff':
            pipe.vae.enable_slicing()
        pipe.unet.enable_forward_chunking(1, 1)
        return generate(pipe, 1 if request['model'] == 'animatediff' else 2)

    def offload():
        pipe = pipeline('cpu')
        if device == 'cuda':
            pipe.enable_model_cpu_offload()
        return generate(pipe, 1 if request['model'] == 'animatediff' else 2)

    attempt(variants, 'plain', plain)
    attempt(variants, 'VAE slicing, forward chunking', lean)
    attempt(variants, 'offload', offload)
    return variants


print(json.dumps(dict(variants=dict(step=step, video=video)[request['what']](), torch=torch.__version__, diffusers=diffusers.__version__,
                      device=torch.cuda.get_device_name() if device == 'cuda' else 'CPU')))
