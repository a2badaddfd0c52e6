import { formatBytes } from '../units.js'
import type { ReportData, StageData } from './data.js'
import { labelOf } from './explain.js'
import { exactly, formatFlops, formatShare, formatTime, grouped } from './format.js'
import { type Holder, largestHolders, peakHolders } from './holders.js'
import { type Html, html } from './html.js'
import { kinds } from './kinds.js'
import type { ProgramData } from './program-data.js'

/** Predicted and measured bytes of every stage, with a bar of what they are made of. */
export function stageTable({ stages, budget, peakBytes }: ReportData): Html {
  const ran = stages.some(stage => stage.measuredBytes !== undefined)
  const scale = Math.max(peakBytes, budget !== undefined && budget < 2 * peakBytes ? budget : 0)
  const bar = (stage: StageData) => {
    const part = (bytes: number, kind: string) =>
      html`<i style="width:${((100 * bytes) / scale).toFixed(2)}%;background:var(--${kind})"></i>`
    const limit =
      budget !== undefined &&
      budget <= scale &&
      html`<i class="limit" style="left:calc(${((100 * budget) / scale).toFixed(2)}% - 2px)"></i>`
    return html`<div class="bar" aria-hidden="true">${part(stage.weightBytes, 'weights')}${part(stage.stateBytes, 'kind-state')}${part(stage.arenaBytes - stage.stateBytes, 'kind-whole')}${limit}</div>`
  }
  return html`<div class="scroll"><table>
<caption>Stages run one after another; each gives its memory back before the next begins.</caption>
<thead><tr><th scope="col">stage</th><th scope="col" class="number">predicted peak</th>${ran && html`<th scope="col" class="number">measured peak</th><th scope="col">prediction</th>`}<th scope="col" class="number">weights</th><th scope="col" class="number">arena</th><th scope="col" class="number">host copies</th><th scope="col" class="number">${ran ? 'time' : 'predicted time'}</th><th scope="col">of the peak</th></tr></thead>
<tbody>${stages.map(
    stage => html`<tr><th scope="row">${stage.name}</th>
<td class="number">${formatBytes(stage.peakBytes)}<small>${grouped(stage.peakBytes)} bytes</small></td>
${ran && measuredCells(stage)}
<td class="number">${formatBytes(stage.weightBytes)}</td>
<td class="number">${formatBytes(stage.arenaBytes)}<small>${formatBytes(stage.stateBytes)} of it state</small></td>
<td class="number">${formatBytes(stage.hostBytes)}</td>
<td class="number">${timeOf(stage, ran)}</td>
<td>${bar(stage)}</td></tr>`,
  )}</tbody></table></div>
<p class="keys"><span class="key" style="--key:var(--weights)">weights</span><span class="key" style="--key:var(--kind-state)">state</span><span class="key" style="--key:var(--kind-whole)">rest of the arena</span>${budget !== undefined && html`<span class="key" style="--key:var(--danger)">budget</span>`}</p>`
}

function measuredCells({ peakBytes, measuredBytes }: StageData): Html {
  if (measuredBytes === undefined)
    return html`<td class="number muted">–</td><td class="muted">not run</td>`
  const equal = measuredBytes === peakBytes
  return html`<td class="number">${formatBytes(measuredBytes)}<small>${grouped(measuredBytes)} bytes</small></td>
<td class="mark ${equal ? 'equal' : 'differs'}">${equal ? '= equal' : '≠ differs'}</td>`
}

function timeOf({ seconds, predictedSeconds }: StageData, ran: boolean): Html {
  if (!ran) return html`${formatTime(predictedSeconds)}`
  return html`${seconds === undefined ? '–' : formatTime(seconds)}<small>predicted ${formatTime(predictedSeconds)}</small>`
}

/** The figures of one program. */
export function programFigures(stage: StageData, program: ProgramData): Html {
  const sliced = program.groups.filter(({ slices, inner }) => slices > 1 || inner.length > 0)
  const most = Math.max(
    1,
    ...program.groups.map(({ slices, inner }) =>
      Math.max(slices, ...inner.map(part => slices * part.slices)),
    ),
  )
  const gap = program.bytes - program.lowerBound
  const entry = (label: string, value: string, note: string) =>
    html`<div><span>${label}</span><b>${value}</b><small>${note}</small></div>`
  return html`<div class="grid">
${entry('arena', formatBytes(program.base + program.bytes), `${grouped(program.base + program.bytes)} bytes, state included`)}
${entry('lower bound', formatBytes(program.base + program.lowerBound), gap <= 0 ? 'reached: no gaps' : `packing adds ${formatShare(gap, program.lowerBound)}`)}
${entry('weights', formatBytes(stage.weightBytes), 'beside the arena')}
${entry('groups', grouped(program.groups.length), sliced.length === 0 ? 'none sliced' : `${grouped(sliced.length)} sliced, up to ${grouped(most)} slices`)}
${entry('operators', grouped(program.ops.name.length), `${grouped(program.commands)} commands a run, ${grouped(program.runs)} ${program.runs === 1 ? 'run' : 'runs'}`)}
${entry('arithmetic', formatFlops(program.flops), `a run; ${formatBytes(program.bytesMoved)} moved, predicted ${formatTime(program.seconds)}`)}
</div>`
}

/** What is alive in the fullest step. */
export function peakTable(program: ProgramData): Html | undefined {
  if (program.peak.op < 0) return undefined
  const { step, op, buffers } = program.peak
  const shown = peakHolders(program, 12)
  const left = buffers.length - shown.reduce((sum, { count }) => sum + count, 0)
  return html`<h3>What holds the peak</h3>
<p class="muted">Step ${step + 1} of ${program.steps}, <b>${program.ops.name[op]}</b> (${program.ops.op[op]}): ${exactly(program.live[step]!)} alive in ${buffers.length} buffers.</p>
${holderTable(shown, program.lowerBound, 'share')}
${left > 0 && html`<p class="muted">And ${left} smaller ones.</p>`}`
}

/** The largest tensors, wherever they live. */
export function largestTable(program: ProgramData): Html | undefined {
  if (program.buffers.bytes.length === 0) return undefined
  return html`<h3>Largest tensors</h3>
${holderTable(largestHolders(program, 12), program.lowerBound, 'of the bound')}`
}

function holderTable(holders: readonly Holder[], whole: number, share: string): Html {
  return html`<div class="scroll"><table>
<thead><tr><th scope="col">tensor</th><th scope="col">kind</th><th scope="col">shape</th><th scope="col" class="number">size</th><th scope="col" class="number">bytes</th><th scope="col" class="number">${share}</th><th scope="col" class="number">steps</th></tr></thead>
<tbody>${holders.map(
    holder => html`<tr><td class="name"><button type="button" class="link" data-buffer="${holder.buffer}">${holder.name}</button>${holder.count > 1 && html`<small>${holder.count} parts</small>`}</td>
<td><span class="key" style="--key:var(--kind-${kindColour(holder.kind)})">${labelOf(holder.kind)}</span></td>
<td class="shape">${holder.shape || '–'}</td>
<td class="number">${formatBytes(holder.bytes)}</td>
<td class="number muted">${grouped(holder.bytes)}</td>
<td class="number">${formatShare(holder.bytes, whole)}</td>
<td class="number">${holder.start + 1} to ${holder.end}</td></tr>`,
  )}</tbody></table></div>`
}

/** Only names that the style sheet knows. */
function kindColour(kind: string): string {
  return kinds.some(({ id }) => id === kind) ? kind : 'other'
}

/** What would lower the peak, where that was planned. */
export function alternativesTable({ alternatives, peakBytes }: ReportData): Html | undefined {
  if (!alternatives) return undefined
  const rows = alternatives.map(
    ({
      change,
      options,
      peakBytes: bytes,
      stages,
      time,
    }) => html`<tr><td>${change}<small>${options}</small></td>
<td class="number">${formatBytes(bytes)}<small>${grouped(bytes)} bytes</small></td>
<td class="number">−${formatBytes(peakBytes - bytes)}</td>
<td>${stages.map(stage => html`<div>${stage.name} ${formatBytes(stage.peakBytes)}, ${stage.mostSlices > 1 ? `up to ${stage.mostSlices} slices` : 'unsliced'}</div>`)}</td>
<td class="number">× ${time.toFixed(2)}</td></tr>`,
  )
  return html`<section class="panel"><h2>What would lower the peak</h2>
${
  rows.length
    ? html`<div class="scroll"><table><thead><tr><th scope="col">change</th><th scope="col" class="number">peak</th><th scope="col" class="number">saves</th><th scope="col">stages</th><th scope="col" class="number">predicted time</th></tr></thead><tbody>${rows}</tbody></table></div>`
    : html`<p>Nothing that was tried: a smaller budget, fewer frames, a smaller picture.</p>`
}</section>`
}
