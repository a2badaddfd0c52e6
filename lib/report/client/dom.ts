/** The part of the browser that the page's script uses; the compiler's own DOM library would put its globals into all of lib. */
export interface Dom extends Element {
  readonly body: Element
  readonly documentElement: Element
  getElementById(id: string): Element | null
  createElement(tag: string): Element
}

export interface Pointer {
  readonly clientX: number
  readonly clientY: number
  readonly deltaX: number
  readonly deltaY: number
  readonly button: number
  readonly pointerId: number
  readonly key: string
  readonly ctrlKey: boolean
  readonly metaKey: boolean
  readonly altKey: boolean
  readonly shiftKey: boolean
  readonly target: Element
  preventDefault(): void
}

export interface Element {
  id: string
  hidden: boolean
  textContent: string | null
  className: string
  tabIndex: number
  value: string
  checked: boolean
  readonly dataset: Record<string, string | undefined>
  readonly style: Record<string, string>
  readonly offsetWidth: number
  readonly offsetHeight: number
  readonly clientWidth: number
  readonly clientHeight: number
  append(...children: (Element | string)[]): void
  replaceChildren(...children: (Element | string)[]): void
  setAttribute(name: string, value: string): void
  focus(): void
  scrollIntoView(options: { block: string }): void
  setPointerCapture(pointer: number): void
  querySelector(selector: string): Element | null
  querySelectorAll(selector: string): Iterable<Element>
  closest(selector: string): Element | null
  getBoundingClientRect(): { left: number; top: number; width: number; height: number }
  addEventListener(type: string, handle: (event: Pointer) => void, options?: object): void
}

export interface Canvas extends Element {
  width: number
  height: number
  getContext(kind: '2d'): Pen
}

export interface Pen {
  fillStyle: string
  strokeStyle: string
  lineWidth: number
  font: string
  textAlign: string
  textBaseline: string
  globalAlpha: number
  setTransform(a: number, b: number, c: number, d: number, e: number, f: number): void
  clearRect(x: number, y: number, width: number, height: number): void
  fillRect(x: number, y: number, width: number, height: number): void
  strokeRect(x: number, y: number, width: number, height: number): void
  fillText(text: string, x: number, y: number): void
  measureText(text: string): { width: number }
  beginPath(): void
  moveTo(x: number, y: number): void
  lineTo(x: number, y: number): void
  arc(x: number, y: number, radius: number, from: number, to: number): void
  rect(x: number, y: number, width: number, height: number): void
  closePath(): void
  fill(): void
  stroke(): void
  clip(): void
  save(): void
  restore(): void
  setLineDash(dashes: readonly number[]): void
  drawImage(image: Canvas, x: number, y: number, width: number, height: number): void
}

export interface Browser {
  readonly devicePixelRatio: number
  readonly innerWidth: number
  readonly innerHeight: number
  getComputedStyle(element: Element): { getPropertyValue(name: string): string }
  matchMedia(query: string): { addEventListener(type: 'change', handle: () => void): void }
  requestAnimationFrame(draw: () => void): number
  addEventListener(type: string, handle: () => void): void
}
