/** The little that the page does with the document. Text is set as text; there is no way to set markup. */

/** @throws TypeError when the page is not the one this script belongs to. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id)
  if (found instanceof type) return found
  throw new TypeError(`the page has no ${type.name} #${id}`)
}

export interface Content {
  readonly text?: string
  readonly className?: string
  readonly data?: Readonly<Record<string, string>>
  readonly children?: readonly Node[]
}

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  content: Content = {},
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag)
  if (content.text !== undefined) made.textContent = content.text
  if (content.className !== undefined) made.className = content.className
  for (const [name, value] of Object.entries(content.data ?? {})) made.dataset[name] = value
  made.append(...(content.children ?? []))
  return made
}

export function replaceChildren(parent: HTMLElement, children: readonly Node[]): void {
  parent.replaceChildren(...children)
}
