import type { StageData } from './data.js'
import type { ProgramData } from './program-data.js'

/** A buffer, or several of one tensor (its bands, one by one), as tables show it. */
export interface Holder {
  /** Index of the largest among the program's buffers. */
  buffer: number
  count: number
  name: string
  kind: string
  shape: string
  /** Together where they are alive together, else of the largest. */
  bytes: number
  /** First and one past the last step. */
  start: number
  end: number
}

/** The program that a stage's arena is as large as. */
export function largestProgram(stage: StageData): ProgramData | undefined {
  return stage.programs[0]
}

/** What is alive at the peak, largest first; the bands of one tensor as one entry. */
export function peakHolders(program: ProgramData, most: number): Holder[] {
  return merged(program, program.peak.buffers, true).slice(0, most)
}

/** The largest tensors of a program, wherever they live. */
export function largestHolders(program: ProgramData, most: number): Holder[] {
  const all = program.buffers.bytes.map((_, i) => i)
  all.sort((a, b) => program.buffers.bytes[b]! - program.buffers.bytes[a]! || a - b)
  return merged(program, all, false).slice(0, most)
}

function merged(program: ProgramData, indices: readonly number[], together: boolean): Holder[] {
  const { buffers, strings } = program
  const found = new Map<string, Holder>()
  for (const i of indices) {
    const [name, kind] = [strings[buffers.name[i]!]!, strings[buffers.kind[i]!]!]
    const key = `${kind} ${name}`
    const [bytes, start, end] = [buffers.bytes[i]!, buffers.start[i]!, buffers.end[i]!]
    const known = found.get(key)
    if (known) {
      known.count++
      known.bytes = together ? known.bytes + bytes : Math.max(known.bytes, bytes)
      known.start = Math.min(known.start, start)
      known.end = Math.max(known.end, end)
    } else {
      const shape = buffers.shape[i]! < 0 ? '' : strings[buffers.shape[i]!]!
      found.set(key, { buffer: i, count: 1, name, kind, shape, bytes, start, end })
    }
  }
  return [...found.values()].sort((a, b) => b.bytes - a.bytes || a.buffer - b.buffer)
}
