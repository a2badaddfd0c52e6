import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { CheckpointError } from '../errors.js'
import { readJson } from './weight-index.js'

/** CLIP's tokenizer: text to a fixed number of token ids. */
export class CLIPTokenizer {
  private constructor(
    private readonly tokenizer: Tokenizer,
    /** Ids that `encode` gives: `model_max_length`. */
    readonly length: number,
    readonly bos: number,
    readonly eos: number,
    readonly pad: number,
  ) {}

  /**
   * Loads a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt` as older checkpoints have it; beside them
   * `tokenizer_config.json` and `special_tokens_map.json`, where present.
   * @throws CheckpointError
   */
  static load(folder: string): CLIPTokenizer {
    const config = readIfPresent(join(folder, 'tokenizer_config.json'))
    const map = readIfPresent(join(folder, 'special_tokens_map.json'))
    // Older files disagree on the padding token; transformers believes the map, unless the config lists its tokens.
    const tokens = 'added_tokens_decoder' in config ? { ...map, ...config } : { ...config, ...map }
    const nameOf = (role: string): string => {
      const token = tokens[role] as string | { content?: string } | undefined | null
      return (typeof token === 'object' ? token?.content : token) ?? defaults[role]!
    }
    const path = join(folder, 'tokenizer.json')
    const source = existsSync(path) ? readJson(path) : fromVocabulary(folder, nameOf)
    let tokenizer: Tokenizer
    try {
      tokenizer = new Tokenizer(source, config)
    } catch (error) {
      throw new CheckpointError(
        `${folder}: expected a tokenizer, got ${(error as Error).message}; fetch it again`,
        folder,
        { cause: error },
      )
    }
    const idOf = (role: string): number => {
      const id = tokenizer.token_to_id(nameOf(role))
      if (id === undefined) {
        throw new CheckpointError(
          `${folder}: expected the ${role} ${nameOf(role)} in the vocabulary, got none; fetch the tokenizer again`,
          folder,
        )
      }
      return id
    }
    return new CLIPTokenizer(
      tokenizer,
      lengthOf(folder, config),
      idOf('bos_token'),
      idOf('eos_token'),
      idOf('pad_token'),
    )
  }

  /** Token ids [length]: begin, the text's tokens as far as they fit, end, padding. */
  encode(text: string): Int32Array {
    // Only at a word's end would JavaScript lower a capital sigma to the final form; the reference lowers each letter alone.
    const { ids } = this.tokenizer.encode(text.replaceAll('Σ', 'σ'), { add_special_tokens: false })
    const out = new Int32Array(this.length).fill(this.pad)
    const used = Math.min(ids.length, this.length - 2)
    out[0] = this.bos
    out.set(ids.slice(0, used), 1)
    out[used + 1] = this.eos
    return out
  }
}

const defaults: Record<string, string> = {
  bos_token: '<|startoftext|>',
  eos_token: '<|endoftext|>',
  unk_token: '<|endoftext|>',
  pad_token: '<|endoftext|>',
}

function readIfPresent(path: string): Record<string, unknown> {
  return existsSync(path) ? readJson(path) : {}
}

/** CLIP's positions are 77; some configs hold a huge number for "no limit". */
function lengthOf(folder: string, config: Record<string, unknown>): number {
  const length = config.model_max_length ?? 77
  if (typeof length === 'number' && length > 1e6) return 77
  if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 2) {
    throw new CheckpointError(
      `${join(folder, 'tokenizer_config.json')}: expected model_max_length of at least 2, got ${JSON.stringify(length)}; correct it`,
      folder,
    )
  }
  return length
}

/** CLIP's pieces: contractions, runs of letters, single digits, runs of anything else but space. */
const pieces =
  "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

/** The `tokenizer.json` that belongs to a `vocab.json` and a `merges.txt`. */
function fromVocabulary(folder: string, nameOf: (role: string) => string): object {
  const vocab = readJson(join(folder, 'vocab.json'))
  const mergesPath = join(folder, 'merges.txt')
  if (!existsSync(mergesPath)) {
    throw new CheckpointError(
      `${folder}: expected merges.txt beside vocab.json, got none; fetch the whole tokenizer`,
      folder,
    )
  }
  const merges = readFileSync(mergesPath, 'utf8')
    .split(/\r?\n/)
    .filter((line, i) => line !== '' && !(i === 0 && line.startsWith('#version')))
    .map(line => line.split(' '))
  if (!merges.every(pair => pair.length === 2)) {
    throw new CheckpointError(
      `${mergesPath}: expected two tokens a line, got another number; fetch it again`,
      mergesPath,
    )
  }
  const special = [...new Set(Object.keys(defaults).map(nameOf))]
  return {
    version: '1.0',
    added_tokens: special.map(content => ({
      id: vocab[content],
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: pieces }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: nameOf('unk_token'),
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      byte_fallback: false,
      vocab,
      merges,
    },
  }
}
