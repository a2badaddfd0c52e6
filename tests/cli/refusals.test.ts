import { mkdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { scratch } from '../io/scratch.js'
import {
  copyModel,
  editHeader,
  fullSize,
  sparseFullSize,
  unetFile,
  vaeFile,
} from '../support/checkpoints.js'
import { type Finished, sluice, start } from '../support/cli.js'
import { fixture } from '../support/recorded.js'

const { path, list, clean } = scratch('refusals')
test.after(clean)

const prompt = 'a red circle'
const golden = fixture('golden/ad-wide.safetensors')

/** The command ended so, with one line on stderr, before any stage ran. */
function refused({ code, stderr }: Finished, expected: number, message: RegExp): void {
  assert.match(stderr, message)
  assert.is(code, expected, stderr)
  assert.match(stderr, /^sluice: .+\n$/)
}

async function generate(...args: string[]): Promise<Finished> {
  return sluice('generate', prompt, '-o', path('out.webp'), ...args)
}

test('a truncated weight file', async () => {
  const model = copyModel(path('truncated'))
  truncateSync(join(model, unetFile), 4_000_000)
  refused(await generate('--model', model), 4, /truncated: fetch it again/)
  refused(await sluice('inspect', join(model, unetFile)), 4, /truncated/)
  refused(await sluice('inspect', model), 4, /truncated/)
})

test('a weight of a wrong dtype', async () => {
  const model = copyModel(path('dtype'))
  editHeader(join(model, unetFile), header => {
    header['conv_in.weight']!.dtype = 'I16'
  })
  refused(
    await generate('--model', model),
    4,
    /conv_in\.weight: expected dtype F32, F16 or BF16, got I16/,
  )
})

test('a missing weight of the last stage', async () => {
  const model = copyModel(path('missing'))
  editHeader(join(model, vaeFile), header => {
    header['other.bias'] = header['decoder.conv_out.bias']!
    delete header['decoder.conv_out.bias']
  })
  refused(
    await generate('--model', model),
    4,
    /expected weight vae\/decoder\.conv_out\.bias \[3\], got none/,
  )
})

test('a weight of another shape', async () => {
  const model = copyModel(path('shape'))
  editHeader(join(model, vaeFile), header => {
    header['decoder.conv_in.weight']!.shape.reverse()
  })
  refused(
    await generate('--model', model),
    4,
    /expected vae\/decoder\.conv_in\.weight \[.+\], got \[/,
  )
})

test('headers that claim more than the file', async () => {
  const model = copyModel(path('claims'))
  editHeader(join(model, vaeFile), header => {
    const last = Object.values(header).reduce((a, b) =>
      b.data_offsets?.[1] > (a.data_offsets?.[1] ?? 0) ? b : a,
    )
    last.shape = [...last.shape, 1000]
    last.data_offsets[1] =
      last.data_offsets[0] + 1000 * (last.data_offsets[1] - last.data_offsets[0])
  })
  refused(
    await generate('--model', model),
    4,
    /expected data up to byte \d+ of the file, got a file of \d+/,
  )
  const bytes = readFileSync(join(model, unetFile))
  bytes.writeBigUInt64LE(BigInt(bytes.length), 0)
  writeFileSync(path('long.safetensors'), bytes)
  refused(
    await sluice('inspect', path('long.safetensors')),
    4,
    /expected a header of \d+ bytes, got a file of \d+/,
  )
})

test('pickles are never opened', async () => {
  const model = copyModel(path('pickle'))
  const pickle = join(model, 'unet/diffusion_pytorch_model.bin')
  renameSync(join(model, unetFile), pickle)
  writeFileSync(pickle, Buffer.from('800263746f7263680a', 'hex'))
  refused(
    await generate('--model', model),
    4,
    /got only pickles \(diffusion_pytorch_model\.bin\); convert/,
  )
  refused(await sluice('inspect', model), 4, /only pickles/)
  refused(await sluice('inspect', pickle), 4, /got a pickle/)
  refused(await sluice('generate', prompt, '--init-latents', pickle), 4, /got a pickle/)
})

test('no checkpoint, no weights, another pipeline', async () => {
  refused(await generate('--model', path('nowhere')), 4, /expected a folder in diffusers' layout/)
  refused(await generate('--model', fullSize), 4, /expected weights in safetensors, got none/)
  const model = copyModel(path('pipeline'))
  writeFileSync(join(model, 'model_index.json'), '{"_class_name": "FluxPipeline"}')
  refused(
    await sluice('plan', '--model', model),
    4,
    /expected AnimateDiffPipeline or .+ or StableVideoDiffusionPipeline, got FluxPipeline/,
  )
})

test('impossible sizes', async () => {
  refused(
    await generate('--width', '100'),
    2,
    /^sluice: width: expected a multiple of 8 from 8 to 16384, got 100/,
  )
  refused(await generate('--height', '16392'), 2, /height: expected a multiple of 8/)
  refused(await generate('--frames', '33'), 2, /frames/)
  refused(await generate('--frames', '0'), 2, /--frames: expected an integer of at least 1, got 0/)
  const huge = ['--width', '16384', '--height', '16384']
  refused(
    await generate('--model', fullSize, ...huge),
    7,
    /expected a peak within its .+ got .+iB; give a budget/,
  )
})

test('a budget of 1 MiB: what is needed, allowed, the stage and operator', async () => {
  const model = await sparseFullSize(path('sparse'))
  for (const args of [[], ['--model', model]]) {
    const result = await generate('--budget', '1MiB', ...args)
    refused(
      result,
      5,
      /expected at least \d+ bytes \(.+\) for stage \w+, got 1048576 \(1\.00 MiB\); .*peak in .+largest tensor/,
    )
    assert.is(result.stdout, '')
  }
})

test('options: unknown, misspelt, malformed', async () => {
  refused(await generate('--colour', 'red'), 2, /unknown option '--colour'/)
  refused(await generate('--frame', '3'), 2, /unknown option '--frame' \(Did you mean --frames\?\)/)
  refused(
    await sluice('genrate', prompt),
    2,
    /unknown command 'genrate' \(Did you mean generate\?\)/,
  )
  refused(await sluice('generate'), 2, /prompt: expected a sentence, got none/)
  refused(
    await generate('--steps', 'ten'),
    2,
    /--steps: expected an integer of at least 1, got ten/,
  )
  refused(await generate('--seed', '-1'), 2, /--seed: expected an integer of at least 0, got -1/)
  refused(await generate('--guidance', 'much'), 2, /--guidance: expected a number, got much/)
  refused(await generate('--budget', 'lots'), 2, /--budget: expected bytes such as 512MiB/)
  refused(await generate('--scheduler', 'unipc'), 2, /scheduler: expected one of ddim/)
  refused(await generate('--spacing', 'even'), 2, /spacing: expected one of leading, linspace/)
  refused(await generate('--karras'), 2, /karras: expected one of the schedulers euler, dpmpp-2m/)
  refused(await generate('--device', 'cuda:9'), 6, /device: expected one of cpu.*got cuda:9/)
  refused(
    await sluice('plan', '--weights', 'int4'),
    2,
    /--weights: expected f32, f16 or bf16, got int4/,
  )
})

test('outputs are checked before any work', async () => {
  const to = (output: string, ...args: string[]) =>
    sluice('generate', prompt, '-o', output, ...args)
  writeFileSync(path('file'), '')
  mkdirSync(path('folder.st'))
  refused(await to(path('out.avi')), 2, /expected \.webp, \.gif, \.mp4, \.webm/)
  refused(await to(path('file/out.webp')), 8, /expected a folder to write to, got the file/)
  refused(await generate('--save-latents', path('folder.st')), 8, /expected a file, got a folder/)
  refused(
    await generate('--save-frames', path('out.webp')),
    2,
    /expected one output there, got two/,
  )
  refused(
    await generate('--no-decode', '--save-latents', path('l.st')),
    2,
    /expected no --output, which needs decoding/,
  )
  refused(await sluice('generate', prompt, '--no-decode'), 2, /expected --save-latents/)
  refused(await generate('--fps', '0'), 2, /fps: expected a number above 0/)
  const { finished } = start(['generate', prompt, '-o', path('out.mp4')], {
    env: { PATH: path('folder.st') },
  })
  refused(await finished, 8, /expected ffmpeg at ffmpeg to write \.mp4, got none/)
})

test('start noise that does not fit', async () => {
  const noise = `${golden}#noise`
  refused(
    await generate('--init-latents', noise, '--frames', '8'),
    2,
    /--frames: expected 12 as in the start noise .+, got 8/,
  )
  refused(await sluice('plan', '--init-latents', noise, '--width', '64'), 2, /--width: expected 96/)
  refused(
    await generate('--init-latents', `${golden}#video`),
    2,
    /--init-latents: expected \[1, 4, frames, rows, cols\], got video/,
  )
  refused(
    await generate('--init-latents', `${golden}#nothing`),
    4,
    /expected a tensor nothing, got/,
  )
  refused(await generate('--init-latents', path('none.safetensors')), 4, /no such file/)
})

test('nothing was written', () => {
  assert.not(list().includes('out.webp'))
  assert.not(list().some(name => name.endsWith('.tmp')))
})

test.run()
