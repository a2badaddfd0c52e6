/** What runs: `stage` is text, image, encode, denoise or decode; `phase` tells loading weights from computing. */
export interface Progress {
  stage: string
  phase: 'load' | 'run'
  /** Work done and in all, in units of commands (run) or weights (load). */
  done: number
  total: number
  /** Denoising step, from 0, and how many. */
  step?: number
  steps?: number
}
