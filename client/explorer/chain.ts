/**
 * The chain from the hardware maker's root down to the key, drawn from the checks of a result: each check belongs to one link,
 * a link is as good as its worst check, and nothing below a broken link is supported by it.
 */
import type { Check } from '../../verifier/checks.js'
import { ALL_CHECKS } from '../../verifier/registry.js'
import type { AttestationResult } from '../../verifier/result.js'
import { printable } from '../../verifier/text.js'
import { element, replaceChildren } from './dom.js'

export type LinkState = 'holds' | 'waived' | 'open' | 'broken' | 'unsupported'

export interface ChainLink {
  readonly id: string
  readonly title: string
  readonly state: LinkState
  readonly checks: readonly Check[]
}

/** From top to bottom; the first whose pattern fits takes the check. */
const LINKS: readonly { readonly id: string; readonly title: string; readonly takes: RegExp }[] = [
  { id: 'form', title: 'The evidence can be read', takes: /\.parse$|^(bundle|claims)\./ },
  {
    id: 'maker',
    title: 'The maker of the processor certified its key, and did not revoke it',
    takes: /^(snp\.(vek|chain|crl|product)|tdx\.(pck|crl|collateral|qe))\b/,
  },
  {
    id: 'report',
    title: 'That key signed the report',
    takes: /^(snp\.(report|chip-id|hcl|tpm)|tdx\.(quote|hcl|tpm|event-log))\b/,
  },
  { id: 'firmware', title: 'Firmware and settings are ones you accept', takes: /^(snp|tdx)\./ },
  { id: 'gpu', title: 'The GPU is genuine, and the maker’s firmware runs on it', takes: /^gpu\./ },
  { id: 'bound', title: 'Processor and GPU speak of the same enclave', takes: /^binding\./ },
  { id: 'software', title: 'The software is known', takes: /^(reference|release|image|operator)\./ },
  { id: 'model', title: 'The model and how it is served are ones you accept', takes: /^(model|serving)\./ },
  { id: 'key', title: 'The key is the enclave’s, and current', takes: /^(keys|freshness)\./ },
]

const WORDS: Readonly<Record<LinkState, string>> = {
  holds: 'holds',
  waived: 'holds, with something given up',
  open: 'not decided',
  broken: 'broken',
  unsupported: 'not supported: a link above is broken',
}

export function chainOf({ checks, waived }: Pick<AttestationResult, 'checks' | 'waived'>): readonly ChainLink[] {
  const given = new Set(waived)
  let supported = true
  return LINKS.flatMap(({ id, title }, index) => {
    const mine = checks.filter((check) => LINKS.findIndex((link) => link.takes.test(check.id)) === index)
    if (mine.length === 0) return []
    const own = stateOf(mine, given)
    const state = supported || own === 'broken' ? own : 'unsupported'
    if (own === 'broken') supported = false
    return [{ id, title, state, checks: mine }]
  })
}

function stateOf(checks: readonly Check[], waived: ReadonlySet<string>): LinkState {
  if (checks.some(({ status }) => status === 'fail')) return 'broken'
  if (checks.some(({ id, status }) => status === 'skip' && !waived.has(id))) return 'open'
  return checks.some(({ status }) => status === 'skip') ? 'waived' : 'holds'
}

export function renderChain(list: HTMLOListElement, result: AttestationResult): void {
  replaceChildren(list, chainOf(result).map(renderLink))
}

function renderLink({ id, title, state, checks }: ChainLink): HTMLLIElement {
  const passed = checks.filter(({ status }) => status === 'pass').length
  const summary = element('summary', {
    children: [
      document.createTextNode(`${title} — `),
      element('span', { className: 'state', text: WORDS[state] }),
      document.createTextNode(` (${passed} of ${checks.length} checks passed)`),
    ],
  })
  const details = element('details', {
    children: [summary, element('dl', { children: checks.flatMap(renderCheck) })],
  })
  details.open = state === 'broken' || state === 'open'
  return element('li', { data: { state, link: id }, children: [details] })
}

function renderCheck(check: Check): readonly HTMLElement[] {
  const definition = ALL_CHECKS.get(check.id)
  const lines = [
    check.status === 'pass' ? check.title : (check.reason ?? check.title),
    ...(check.expected === undefined ? [] : [`expected ${check.expected}`]),
    ...(check.actual === undefined ? [] : [`found ${check.actual}`]),
    ...(check.status === 'pass' || definition === undefined ? [] : [`Without it: ${definition.gain}`]),
    check.spec,
  ]
  return [
    element('dt', { text: `${check.status} ${check.id}`, data: { status: check.status, check: check.id } }),
    ...lines.map((line) => element('dd', { text: printable(line) })),
  ]
}
