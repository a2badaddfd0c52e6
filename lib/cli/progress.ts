import { Presets, SingleBar } from 'cli-progress'
import type { Progress } from '../pipelines/progress.js'

/** Progress on stderr: a bar for each stage on a terminal, else a line for each stage. */
export class ProgressReport {
  private stage?: string
  private bar?: SingleBar
  constructor(
    private readonly quiet: boolean,
    private readonly stream: NodeJS.WriteStream = process.stderr,
  ) {}

  readonly update = (progress: Progress): void => {
    if (this.quiet) return
    if (progress.stage !== this.stage) this.begin(progress)
    if (!this.bar) return
    this.bar.setTotal(progress.total)
    this.bar.update(progress.done, { note: noteOf(progress) })
  }

  /** Gives the terminal back. */
  stop(): void {
    this.bar?.stop()
    this.bar = undefined
  }

  private begin(progress: Progress): void {
    this.stop()
    this.stage = progress.stage
    if (!this.stream.isTTY) {
      this.stream.write(`sluice: ${progress.stage}\n`)
      return
    }
    const format = `${progress.stage.padEnd(8)} {bar} {percentage}%  {duration_formatted}  {note}`
    const options = {
      format,
      stream: this.stream,
      hideCursor: true,
      gracefulExit: false,
      barsize: 30,
    }
    this.bar = new SingleBar(options, Presets.shades_classic)
    this.bar.start(progress.total, progress.done, { note: noteOf(progress) })
  }
}

function noteOf({ phase, step, steps }: Progress): string {
  if (phase === 'load') return 'weights'
  return step === undefined ? '' : `step ${step + 1} of ${steps}`
}
