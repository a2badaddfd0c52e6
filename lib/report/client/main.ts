import type { ReportData } from '../data.js'
import type { Kind } from '../kinds.js'
import type { Theme } from './axes.js'
import type { Browser, Dom, Element, Pointer } from './dom.js'
import { Figure } from './figure.js'
import { timelineOf } from './timeline.js'

declare const document: Dom
declare const window: Browser

/** Brings the page to life: tabs, timelines, and the buttons of the tables. */
export function start(kinds: readonly Kind[], axes: readonly string[]): void {
  const data = JSON.parse(document.getElementById('data')!.textContent!) as ReportData
  const ids = kinds.map(({ id }) => id)
  const labels = Object.fromEntries(kinds.map(({ id, label }) => [id, label]))
  const tip = document.getElementById('tip')!
  const figures: Figure[] = []
  document.documentElement.dataset.script = 'on'
  for (const root of document.querySelectorAll('figure[data-stage]')) {
    const stage = data.stages[Number(root.dataset.stage)]!
    const program = stage.programs[Number(root.dataset.program)]!
    const timeline = timelineOf(stage, program, ids)
    const figure = new Figure(root, timeline, data, labels, () => theme(ids, axes), tip)
    figures.push(figure)
    for (const button of root.closest('section')!.querySelectorAll('button[data-buffer]'))
      button.addEventListener('click', () =>
        figure.select(timeline.blocks[stage.state.length + Number(button.dataset.buffer)]!),
      )
  }
  const draw = () => {
    for (const figure of figures) figure.draw()
  }
  for (const list of document.querySelectorAll('[role=tablist]')) tabs(list, draw)
  window.addEventListener('resize', draw)
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw)
  draw()
}

/** Colours are the style sheet's, light or dark. */
function theme(kinds: readonly string[], axes: readonly string[]): Theme {
  const style = window.getComputedStyle(document.documentElement)
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim()
  return {
    ink: colour('ink'),
    muted: colour('muted'),
    line: colour('line'),
    panel: colour('panel'),
    accent: colour('accent'),
    danger: colour('danger'),
    kinds: Object.fromEntries(kinds.map(kind => [kind, colour(`kind-${kind}`)])),
    axes: Object.fromEntries(axes.map(axis => [axis, colour(`axis-${axis}`)])),
  }
}

/** Tabs that arrow keys move between. */
function tabs(list: Element, shown: () => void): void {
  const all = [...list.querySelectorAll('[role=tab]')]
  const choose = (chosen: Element) => {
    for (const tab of all) {
      const on = tab === chosen
      tab.setAttribute('aria-selected', String(on))
      tab.tabIndex = on ? 0 : -1
      document.getElementById(tab.dataset.panel!)!.hidden = !on
    }
    shown()
  }
  all.forEach((tab, i) => {
    tab.addEventListener('click', () => choose(tab))
    tab.addEventListener('keydown', (event: Pointer) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: all.length - 1 }[event.key]
      if (to === undefined) return
      event.preventDefault()
      const next = all[(to + all.length) % all.length]!
      choose(next)
      next.focus()
    })
  })
  choose(all.find(tab => tab.dataset.first !== undefined) ?? all[0]!)
}
