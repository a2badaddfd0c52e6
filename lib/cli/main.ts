#!/usr/bin/env node
// Only names and options are known here: what a command needs is loaded when it runs.
import { Command, CommanderError } from 'commander'
import { exitCodeOf, printError } from './errors.js'
import { addPipelineOptions, bytes, integer, number } from './options.js'
import { packageVersion } from './package-info.js'

/** Runs a command line without the leading `node sluice`; resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const program = new Command('sluice')
    .description('Video diffusion whose peak memory is a number you choose')
    .version(packageVersion())
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(oneLine(text)) })

  addPipelineOptions(
    program
      .command('generate')
      .description('make a video from a sentence, or from an image where the checkpoint takes one')
      .argument('[prompt]', 'what to show'),
  )
    .option('--plan <file>', 'run exactly this plan, of plan --save; sizes and steps come from it')
    .action(async (prompt, options) => (await import('./generate.js')).generate(prompt, options))

  addPipelineOptions(
    program
      .command('plan')
      .description('say what a generation takes, reading no weights')
      .argument('[prompt]', 'taken so that a generate command can be planned as it is; not used'),
  )
    .option('--json', 'the whole plan as JSON, with --explain beside what else was planned')
    .option('--smallest', 'plan with the least budget that fits')
    .option('--fastest', 'plan for the least time, whatever the memory')
    .option('--frontier', 'list peaks with predicted times, from the least memory to the fastest')
    .option('--chart <file>', 'write the frontier as a chart, .svg')
    .option('--save <file>', 'write the plan, for generate --plan')
    .option('--explain', 'say what holds the peak and what would lower it; plans other choices too')
    .option('--weights <dtype>', 'assume weights of f32, f16 or bf16 and open no weight file')
    .action(async (prompt, options) => (await import('./plan.js')).plan(prompt, options))

  program
    .command('inspect')
    .description('say what a checkpoint or a safetensors file holds')
    .argument('<path>', 'folder or file')
    .option('--json', 'as JSON')
    .action(async (path, options) => (await import('./inspect.js')).inspect(path, options))

  program
    .command('verify')
    .description('run components on recorded inputs and compare with the recorded outputs')
    .argument('<paths...>', 'folders with case.json, or scheduler records (.json)')
    .option('--json', 'as JSON')
    .option(
      '--tolerance <number>',
      'largest difference over the standard deviation',
      number('tolerance', 0),
      2e-4,
    )
    .option('--budget <bytes>', 'most memory, such as 64MiB', bytes('budget'))
    .option('--smallest', 'run within the least budget that fits')
    .option('--slices <count>', 'slice every group so often', integer('slices', 1))
    .option('--device <id>', 'auto, cpu, cuda:0')
    .option('--threads <count>', 'threads to use', integer('threads', 1))
    .action(async (paths, options) => (await import('./verify.js')).verify(paths, options))

  program
    .command('compare')
    .description('say how close two videos or latents are: PSNR, SSIM, largest difference')
    .argument(
      '<a>',
      'the one to compare with: .safetensors[#key], .webp, .gif, .mp4, .webm, folder',
    )
    .argument('<b>', 'another of the same size and length')
    .option('--key <name>', 'tensor of .safetensors files (default: latents, else video)')
    .option(
      '--range <number>',
      "largest minus smallest value (default: pictures' or a's own)",
      number('range', 0),
    )
    .option('--frames', 'each frame too')
    .option('--least-psnr <dB>', 'exit code 1 below this', number('least-psnr'))
    .option('--json', 'as JSON')
    .action(async (a, b, options) => (await import('./compare.js')).compare(a, b, options))

  program
    .command('arena')
    .description('offsets for buffers with lifetimes, in the least memory')
    .argument('<file>', 'CSV with the columns id, lower, upper and size')
    .option(
      '--capacity <bytes>',
      'memory that is enough; exit code 1 when it is not',
      bytes('capacity'),
    )
    .option('--nodes <count>', 'how long to search', integer('nodes', 0))
    .option('-o, --out <file>', 'write the rows with their offsets here instead of to the output')
    .action(async (file, options) => (await import('./arena.js')).arena(file, options))

  const rehash = program
    .command('rehash')
    .description('reuse of features between denoising steps: measure it, make schedules')
  addPipelineOptions(
    rehash
      .command('measure')
      .description('run all steps in full and write how alike features are between them'),
  )
    .option('--prompts <file>', 'a prompt on each line (default: some of our own)')
    .option('--seeds <count>', 'runs of each prompt', integer('seeds', 1), 1)
    .option('--feature <path...>', 'modules to watch (default: all layers of the up blocks)')
    .option('--picture <file>', 'write the maps as a picture, .png or .svg')
    .option('--json', 'as JSON')
    .action(async options => (await import('./rehash.js')).measure(options))
  rehash
    .command('schedule')
    .description('the steps to run in full, by the algorithm of the paper')
    .argument('<map>', 'file of rehash measure')
    .option('--gamma <similarity>', 'skip steps at least so alike', number('gamma'))
    .option('--full-steps <count>', 'as many full steps', integer('full-steps', 1))
    .option('--feature <path>', 'module (default: the prediction, conv_out)')
    .option('--json', 'as JSON')
    .action(async (map, options) => (await import('./rehash.js')).schedule(map, options))

  program
    .command('calibrate')
    .description('measure this machine, for the times that plans predict')
    .option('--threads <count>', 'threads to measure with', integer('threads', 1))
    .option('--compute <dtype>', 'measure products in f32 or bf16')
    .option('-o, --output <file>', "write here instead of to the user's cache folder")
    .option('--json', 'as JSON')
    .option('--quiet', 'print errors only')
    .action(async options => (await import('./calibrate.js')).calibrate(options))

  program
    .command('doctor')
    .description('say what this machine offers and what is missing')
    .option('--json', 'as JSON')
    .action(async options => (await import('./doctor.js')).doctor(options))

  try {
    if (argv.length === 0) program.help({ error: true })
    await program.parseAsync(argv, { from: 'user' })
    return Number(process.exitCode ?? 0)
  } catch (error) {
    // Commander has said what is wrong; 0 is help and version.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    printError(error)
    return exitCodeOf(error)
  }
}

/** Commander's complaint and suggestion as our errors read. */
function oneLine(text: string): string {
  return `${text
    .trim()
    .replace(/^error:/, 'sluice:')
    .replace(/\s*\n\s*/g, ' ')}; see sluice --help\n`
}

// A reader that has seen enough, such as `head`, closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0)
  throw error
})

process.exitCode = await main(process.argv.slice(2))
