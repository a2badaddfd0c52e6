/** The public surface of Sluice. */
export * from './errors.js'
export type { Frame, ImageSource, Pixels } from './io/image.js'
export {
  AnimateDiff,
  type GenerateOptions,
  type PlanOptions,
} from './pipelines/animatediff.js'
export { embeddedModel } from './pipelines/embedded.js'
export type { StageReport } from './pipelines/generation.js'
export { type AnyPipeline, loadPipeline, plan } from './pipelines/load.js'
export type { RunOptions, ShapeOptions } from './pipelines/options.js'
export { type LoadOptions, Pipeline } from './pipelines/pipeline.js'
export { PipelinePlan, type StageSummary } from './pipelines/pipeline-plan.js'
export type { PipelineDocument } from './pipelines/plan-document.js'
export type { Progress } from './pipelines/progress.js'
export {
  type ImagePlanOptions,
  type ImageToVideoOptions,
  StableVideoDiffusion,
} from './pipelines/stable-video-diffusion.js'
export { Video } from './pipelines/video.js'
export {
  type ArenaBuffer,
  type ArenaLayout,
  type ArenaOptions,
  arenaNodes,
  packArena,
} from './planner/arena/index.js'
export type { Frontier, FrontierPoint, StagePoint } from './planner/frontier.js'
export type {
  PlanOptions as StagePlanOptions,
  ProgramPlan,
  StagePlan,
  StageSpec,
} from './planner/plan.js'
export { planStage } from './planner/plan.js'
export {
  type Activation,
  activation,
  add,
  attention,
  cast,
  combine,
  conv2d,
  convTime,
  type DType,
  embedding,
  gelu,
  groupNorm,
  layerNorm,
  lerp,
  linear,
  mul,
  type Program,
  program,
  quickGelu,
  type Source,
  sigmoid,
  silu,
  sub,
  type Tensor,
  type Trace,
  timestepEmbedding,
  upsampleNearest,
  verifyProgram,
} from './program/index.js'
export type { NativeDevice as Device } from './runtime/addon-types.js'
export { devices } from './runtime/device.js'
export {
  type CompileOptions,
  compile,
  Executable,
  planProgramOf as planProgram,
  run,
} from './runtime/executable.js'
export type { MeasuredPeak } from './runtime/stage.js'
export type { WeightSource } from './runtime/weights.js'
export { formatBytes, parseBytes } from './units.js'
