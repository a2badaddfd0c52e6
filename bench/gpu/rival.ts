/** Asks a program of bench/rival, in a Python that has PyTorch; without one there is a sentence instead of numbers. */
import { join } from 'node:path'
import { root } from '../../tests/support/recorded.js'
import { execute, failure } from './child.js'

export interface Rival {
  readonly device: 'cuda' | 'cpu'
  readonly small: boolean
}

/** @returns the object on the last line that the program wrote; `{ missing }` with the reason where it ended otherwise */
export async function askRival<T extends { missing?: string }>(
  program: string,
  request: object,
  { device, small }: Rival,
  seconds: number,
): Promise<T> {
  const python = process.env.SLUICE_RIVAL_PYTHON ?? 'python3'
  const ended = await execute(python, [join(root, `bench/rival/${program}.py`)], {
    seconds,
    env: { PYTHONUNBUFFERED: '1', HF_HUB_OFFLINE: '1' },
    input: JSON.stringify({ ...request, device, small }),
  })
  const line = ended.output.split('\n').findLast(text => /^\{.*\}$/.test(text))
  if (!line || ended.code !== 0) return { missing: `${python}: ${failure(ended).detail}` } as T
  return JSON.parse(line) as T
}
