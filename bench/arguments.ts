import { type ParseArgsConfig, parseArgs } from 'node:util'

type Options = NonNullable<ParseArgsConfig['options']>
type Values<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>['values']

/** Says in a line what is wrong with a benchmark's options, and ends with code 2. */
export function refuseOption(name: string, what: string): never {
  console.error(`${name}: ${what}; --help lists the options`)
  process.exit(2)
}

/**
 * A benchmark's options. For `--help` prints them and ends; for one that is none, or no count, says so in a line and ends with code 2.
 * @param counts options that are positive integers, or several with commas between
 * @param choices all that an option may be
 */
export function benchArguments<const T extends Options>(
  name: string,
  options: T,
  counts: readonly (keyof T & string)[] = [],
  choices: Readonly<Record<string, readonly string[]>> = {},
): Values<T> {
  const refuse = (what: string) => refuseOption(name, what)
  const parse = () => {
    try {
      return parseArgs({ options: { ...options, help: { type: 'boolean' } } }).values
    } catch (error) {
      return refuse((error as Error).message)
    }
  }
  const values = parse() as Record<string, unknown>
  if (values.help) {
    const lines = Object.entries(options).map(([key, option]) => {
      const value = option.type === 'boolean' ? '' : ' <value>'
      return `  --${key}${value}${option.default === undefined ? '' : `  (default: ${option.default})`}`
    })
    console.log([`usage: node dist/bench/${name}.js [options]`, ...lines].join('\n'))
    process.exit(0)
  }
  for (const key of counts) {
    const wrong = `${values[key]}`.split(',').find(part => !/^[1-9]\d*$/.test(part))
    if (wrong !== undefined) refuse(`--${key}: expected a positive integer, got ${wrong || 'none'}`)
  }
  for (const [key, known] of Object.entries(choices)) {
    if (!known.includes(`${values[key]}`))
      refuse(`--${key}: expected one of ${known.join(', ')}, got ${values[key]}`)
  }
  return values as Values<T>
}
