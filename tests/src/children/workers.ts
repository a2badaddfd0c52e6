// Loads the addon in worker threads only, runs there, and ends some of them in the middle of a run.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { native } from '../../../lib/runtime/native.js'
import { unaryStream } from '../support.js'

if (isMainThread) {
  const ended = (worker: Worker) => new Promise<number>(resolve => worker.on('exit', resolve))
  const start = (role: string) => new Worker(new URL(import.meta.url), { workerData: role })
  for (let round = 0; round < 3; round++) {
    const workers = ['finish', 'finish', 'terminate', 'exit'].map(start)
    workers[2]!.once('message', () => workers[2]!.terminate())
    const codes = await Promise.all(workers.map(ended))
    console.log(codes.join(' '))
  }
  const { bytes, blocks } = native().pool()
  console.log(`${bytes} bytes in ${blocks} blocks`)
} else {
  const long = workerData !== 'finish'
  const stream = unaryStream(long ? 1_000_000 : 50, 100, 320)
  const arena = native().createBlock('cpu', 2 * 100 * 320 * 4)
  const job = stream.run(arena, null, new Float64Array(0), 2, () => {
    parentPort!.postMessage('running')
    if (workerData === 'exit') process.exit(5)
  })
  await job.done
  arena.release()
}
