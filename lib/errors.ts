/**
 * Every error that Sluice throws on purpose. Messages read `<where>: expected <what>, got <value>; <what to do>`.
 * `code` is stable; `exitCode` is what the CLI ends with.
 */
export class SluiceError extends Error {
  readonly code: string = 'SLUICE'
  readonly exitCode: number = 1
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

/** An option or argument of a call is wrong. */
export class OptionError extends SluiceError {
  override readonly code = 'OPTION'
  override readonly exitCode = 2
}

/** A program breaks a rule: an op's shapes, dtypes or attributes. `op` names the node. */
export class ProgramError extends SluiceError {
  override readonly code = 'PROGRAM'
  override readonly exitCode = 3
  constructor(
    message: string,
    readonly op: string,
  ) {
    super(message)
  }
}

/** A checkpoint is missing something, malformed, or of a kind that is refused. `path` is the file or folder. */
export class CheckpointError extends SluiceError {
  override readonly code = 'CHECKPOINT'
  override readonly exitCode = 4
  constructor(
    message: string,
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** What a refused plan asked for. */
export interface BudgetShortfall {
  /** Least bytes with which the plan would fit. */
  needed: number
  allowed: number
  /** Stage that asks for it: `text`, `denoise`, `decode`. */
  stage: string
  /** Operator at the peak. */
  op: string
  /** Largest tensor live there. */
  tensor: string
}

/** The budget cannot hold the plan; refused before any weight is read. */
export class BudgetError extends SluiceError implements BudgetShortfall {
  override readonly code = 'BUDGET'
  override readonly exitCode = 5
  readonly needed: number
  readonly allowed: number
  readonly stage: string
  readonly op: string
  readonly tensor: string
  constructor(message: string, shortfall: BudgetShortfall) {
    super(message)
    this.needed = shortfall.needed
    this.allowed = shortfall.allowed
    this.stage = shortfall.stage
    this.op = shortfall.op
    this.tensor = shortfall.tensor
  }
}

/** No such device, or it failed. */
export class DeviceError extends SluiceError {
  override readonly code = 'DEVICE'
  override readonly exitCode = 6
}

/** The system refused memory that the budget allowed. */
export class MemoryError extends SluiceError {
  override readonly code = 'MEMORY'
  override readonly exitCode = 7
}

/** An input or output file other than a checkpoint: images, latents, videos. */
export class FileError extends SluiceError {
  override readonly code = 'FILE'
  override readonly exitCode = 8
  constructor(
    message: string,
    readonly path: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** The run was cancelled by its signal. */
export class AbortError extends SluiceError {
  override readonly code = 'ABORT'
  override readonly exitCode = 130
}

/** A plan from a file does not belong to this model, shape, machine or version, or is damaged. */
export class PlanError extends SluiceError {
  override readonly code = 'PLAN'
  override readonly exitCode = 10
}

/** The native addon could not be loaded or does not match. */
export class NativeError extends SluiceError {
  override readonly code = 'NATIVE'
  override readonly exitCode = 9
}

/** `verify` found a difference above its tolerance. */
export class VerifyError extends SluiceError {
  override readonly code = 'VERIFY'
  override readonly exitCode = 1
}
