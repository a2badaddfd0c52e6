import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CheckpointError } from '../../lib/errors.js'
import { readInts, readSafetensorsHeader } from '../../lib/io/safetensors.js'
import { CLIPTokenizer } from '../../lib/io/tokenizer.js'
import { scratch } from './scratch.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const embedded = `${root}models/moving-shapes/tokenizer`
const { path, clean } = scratch('tokenizer')
test.after(clean)

/** A copy of the embedded tokenizer as older checkpoints have it. */
function older(name: string, config: object = {}): string {
  mkdirSync(path(name))
  for (const file of ['vocab.json', 'merges.txt'])
    cpSync(`${embedded}/${file}`, path(`${name}/${file}`))
  writeFileSync(
    path(`${name}/tokenizer_config.json`),
    JSON.stringify({ model_max_length: 24, ...config }),
  )
  return path(name)
}

for (const [name, folder] of [
  ['tokenizer.json', embedded],
  ['vocab.json and merges.txt', older('older')],
] as const) {
  test(`${name}: ids are those recorded with transformers`, () => {
    const tokenizer = CLIPTokenizer.load(folder)
    const cases: [string, number[]][] = JSON.parse(
      readFileSync(`${root}tests/fixtures/tokenizer/clip.json`, 'utf8'),
    )
    assert.ok(cases.length > 30)
    for (const [text, ids] of cases)
      assert.equal([...tokenizer.encode(text)], ids, JSON.stringify(text))
  })

  test(`${name}: ids are those of the recorded runs`, async () => {
    const tokenizer = CLIPTokenizer.load(folder)
    for (const run of ['ad-red-circle', 'ad-blue-square', 'ad-wide']) {
      const { tensors, metadata } = readSafetensorsHeader(
        `${root}tests/fixtures/golden/${run}.safetensors`,
      )
      const { prompt } = JSON.parse(metadata.case!)
      assert.equal(tokenizer.encode(prompt), await readInts(tensors.get('input_ids')!))
    }
  })
}

test('a long text is cut before the end token', () => {
  const ids = CLIPTokenizer.load(embedded).encode('blue '.repeat(100))
  assert.is(ids.length, 24)
  assert.is(new Set(ids.slice(1, 23)).size, 1)
  assert.is(ids[23], 618)
})

test('special tokens may be objects, and the map of older files wins', () => {
  const folder = older('map', {
    pad_token: '<|endoftext|>',
    bos_token: { content: '<|startoftext|>' },
  })
  writeFileSync(path('map/special_tokens_map.json'), JSON.stringify({ pad_token: '!' }))
  const ids = CLIPTokenizer.load(folder).encode('a <|endoftext|>red! ring')
  // Recorded with transformers 5.23: the padding token is split from the text too.
  assert.equal([...ids.slice(0, 9)], [617, 320, 618, 568, 0, 574, 618, 0, 0])
})

test('the length is 77 where the config gives none or no limit', () => {
  assert.is(CLIPTokenizer.load(older('unlimited', { model_max_length: 1e30 })).length, 77)
  assert.is(
    CLIPTokenizer.load(older('unsaid', { model_max_length: undefined })).encode('a').length,
    77,
  )
})

test('damaged tokenizers are refused', () => {
  const refuses = (folder: string, message: RegExp) =>
    assert.throws(
      () => CLIPTokenizer.load(folder),
      (e: Error) => e instanceof CheckpointError && message.test(e.message),
    )
  refuses(path('absent'), /vocab.json: expected a JSON file, got no such file/)
  refuses(older('short', { model_max_length: 1 }), /model_max_length of at least 2, got 1/)
  writeFileSync(`${older('merges')}/merges.txt`, '#version: 0.2\na b c\n')
  refuses(path('merges'), /expected two tokens a line/)
  writeFileSync(`${older('vocab')}/vocab.json`, '{"a": 0}')
  refuses(path('vocab'), /expected/)
  mkdirSync(path('half'))
  cpSync(`${embedded}/vocab.json`, path('half/vocab.json'))
  refuses(path('half'), /expected merges.txt beside vocab.json/)
  mkdirSync(path('odd'))
  writeFileSync(path('odd/tokenizer.json'), '{"model": {"type": "Mystery"}}')
  refuses(path('odd'), /expected a tokenizer/)
})

test.run()
