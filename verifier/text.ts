/** Verdicts for people: the question answered first, failures before anything else, nothing that scrolls away. */
import type { Check, CheckDefinition } from './checks.js'
import type { AttestationResult } from './result.js'

export interface Style {
  readonly good: (text: string) => string
  readonly bad: (text: string) => string
  readonly dim: (text: string) => string
  readonly strong: (text: string) => string
}

export const PLAIN: Style = { good: (t) => t, bad: (t) => t, dim: (t) => t, strong: (t) => t }

const WIDTH = 80

/** Control characters of strings that came from evidence, made visible: a terminal must not obey a worker. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (c) => {
    return `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

/** The same for a text of several lines. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

const ASCII: Readonly<Record<string, string>> = {
  '’': "'",
  '‘': "'",
  '“': '"',
  '”': '"',
  '…': '...',
  '×': 'x',
  '–': '-',
  '—': '-',
  '─': '-',
  '≤': '<=',
  '≥': '>=',
  '÷': '/',
  '→': '->',
  '←': '<-',
  '§': 'section ',
  '‖': '||',
}

/** Text for a pipe or a file: nothing but ASCII, other characters as escapes. */
export function toAscii(text: string): string {
  return text.replace(/[^\n\x20-\x7e]/g, (c) => ASCII[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** The whole verdict as text. `registry` gives gain and advice for what stands in the way. */
export function renderResult(
  result: AttestationResult,
  options: { readonly style: Style; readonly registry: ReadonlyMap<string, CheckDefinition>; readonly all?: boolean },
): string {
  const { style, registry } = options
  const lines = result.verdict === 'accepted' ? accepted(result, style) : refused(result, style, registry)
  if (options.all === true) lines.push('', ...result.checks.map((check) => checkLine(check, result, style)))
  return `${lines.join('\n')}\n`
}

const get = (value: unknown, ...path: string[]): unknown =>
  path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value)

/** A root is one the caller supplied: nothing is called genuine then. */
function isPrivate(result: AttestationResult): boolean {
  return result.notProven.some((item) => item.id === 'hardware.private-root')
}

function subject(result: AttestationResult): string {
  const { evidence } = result
  const simulated = isPrivate(result)
  const kind =
    evidence.kind === 'bundle'
      ? 'VM'
      : evidence.kind === 'gpu-nras'
        ? 'answer'
        : evidence.kind === 'gpu-rim'
          ? ''
          : 'report'
  const vm = `${simulated ? 'a SIMULATED OR PRIVATE' : 'one'} ${get(evidence, 'platform') ?? 'unknown'} ${kind}`
  const name = get(evidence, 'statement', 'runtime', 'name')
  const version = get(evidence, 'statement', 'runtime', 'version')
  return name === undefined ? vm : `${vm}, running ${name} ${version}`
}

function accepted(result: AttestationResult, style: Style): string[] {
  const passed = result.checks.filter((check) => check.status === 'pass').length
  // A waiver that only repeats another's is left to --explain.
  const waived = result.checks.filter((check) => result.waived.includes(check.id) && !/; see /.test(check.reason ?? ''))
  const open = result.notProven.filter((item) => !result.waived.includes(item.id))
  return [
    ...first(style.good, style.strong, 'ACCEPTED', subject(result)),
    '',
    ...rows(result, style),
    '',
    ...(waived.length === 0
      ? []
      : ['Waived by your policy:', ...[...new Set(waived.map((check) => check.reason ?? ''))].flatMap(bullet)]),
    ...wrap(`Not proven: ${open.map((item) => item.text).join('; ')}.`, ''),
    '',
    style.dim(
      `${passed} checks passed, ${result.waived.length} waived. --explain shows them; --save keeps the evidence.`,
    ),
  ]
}

/** The verdict and what it is about, from the first column on. */
function first(mark: Style['good'], strong: Style['good'], verdict: string, about: string): string[] {
  const [line = '', ...more] = wrap(printable(about), ' '.repeat(verdict.length + 2))
  return [`${mark(verdict)}  ${strong(line.trimStart())}`, ...more.map((text) => strong(text))]
}

/** One line for each thing a reader asks, in words before numbers. */
function rows(result: AttestationResult, style: Style): string[] {
  const { evidence } = result
  if (evidence.kind.startsWith('gpu'))
    return [row(['nvidia', isPrivate(result) ? 'simulated' : 'genuine', nvidiaWords(result)], style)]
  const find = (id: string) => result.checks.find((check) => check.id === id)
  const state = (id: string, word: string) => (find(id)?.status === 'pass' ? word : 'waived')
  const simulated = isPrivate(result)
  const cpu = cpuWords(result)
  const out: [string, string, string][] = [
    ['hardware', simulated ? 'simulated' : 'genuine', `${cpu.signed}; ${revocationWords(result)}`],
    ['firmware', state(cpu.firmwareCheck, cpu.firmwareWord), cpu.firmware],
    ['software', state('reference.measurement', 'known'), `launch digest ${cpu.measurement}${releaseWords(evidence)}`],
  ]
  if (evidence.kind === 'bundle') {
    out.push(
      ['gpu', state('gpu.present', simulated ? 'simulated' : 'genuine'), gpuWords(result)],
      ['bound', state('binding.report-data', 'yes'), 'the report covers the keys below and nothing next to them'],
      [
        'model',
        state('model.digest', 'known'),
        `${get(evidence, 'statement', 'model', 'id')}  ${short(get(evidence, 'statement', 'model', 'weightsRoot'))}`,
      ],
      ['keys', state('keys.signature', 'attested'), find('keys.suite')?.actual ?? ''],
      ['fresh', state('binding.nonce', 'your nonce'), find('freshness.window')?.actual ?? ''],
    )
  }
  return out.map((line) => row(line, style))
}

function row([label, word, text]: readonly [string, string, string], style: Style): string {
  const weak = word === 'waived' || word === 'simulated'
  const coloured = weak ? style.bad(word.padEnd(12)) : style.good(word.padEnd(12))
  const [first = '', ...more] = wrap(printable(text), ' '.repeat(26))
  return [`  ${label.padEnd(10)} ${coloured} ${first.trimStart()}`, ...more].join('\n')
}

/** Whose release the launch is, where the policy knows software by its releases. */
function releaseWords(evidence: AttestationResult['evidence']): string {
  const version = get(evidence, 'release', 'version')
  if (version === undefined) return ''
  const [date, log] = [get(evidence, 'release', 'date'), get(evidence, 'release', 'log')]
  return ` = release ${version} of ${String(date).slice(0, 10)}, ${log === undefined ? 'in no log' : `in the log ${log}`}`
}

/** What NVIDIA evidence on its own is of. */
function nvidiaWords(result: AttestationResult): string {
  const { evidence } = result
  if (evidence.kind === 'gpu') return gpuWords(result)
  if (evidence.kind === 'gpu-rim')
    return `${evidence['role']} manifest of ${evidence['product']} ${evidence['version']}`
  const devices = evidence['devices']
  return `the remote verifier’s word on ${Array.isArray(devices) ? devices.length : 0} GPU(s)`
}

/** What computes outside the CPU, by what it signed; or why that is not known. */
function gpuWords({ evidence, checks }: AttestationResult): string {
  const devices = get(evidence, 'gpus')
  if (!Array.isArray(devices) || devices.length === 0) {
    return checks.find((check) => check.id === 'gpu.present')?.reason?.replace(/^waived: /, '') ?? ''
  }
  const names = [
    ...new Set(devices.map((device) => `${get(device, 'product')} driver ${get(device, 'driver') ?? '-'}`)),
  ]
  return `${devices.length} × ${names.join(', ')}; firmware measurements match the signed manifests`
}

const short = (value: unknown): string => `${String(value ?? '').slice(0, 16)}…`

interface CpuWords {
  readonly signed: string
  readonly firmwareCheck: string
  readonly firmwareWord: string
  readonly firmware: string
  readonly measurement: string
}

/** The vendor's own words for what signed the evidence, how new its firmware is, and what was launched. */
function cpuWords({ evidence }: AttestationResult): CpuWords {
  const cpu = get(evidence, 'cpu') ?? evidence
  const report = get(cpu, 'report')
  if (get(report, 'teeType') !== undefined) {
    const advisories = get(cpu, 'tcb', 'advisoryIds')
    const listed = Array.isArray(advisories) && advisories.length > 0 ? `; advisories ${advisories.join(', ')}` : ''
    return {
      signed: 'quote signed by a quoting enclave Intel certified',
      firmwareCheck: 'tdx.tcb.status',
      firmwareWord: 'accepted',
      firmware: `TCB status ${get(cpu, 'tcb', 'status') ?? 'unknown'}${listed}`,
      measurement: `MRTD ${short(get(report, 'report', 'mrTd'))}`,
    }
  }
  return {
    signed: `report signed by ${get(report, 'signingKey') ?? 'the chip'}’s key`,
    firmwareCheck: 'snp.tcb.floor',
    firmwareWord: 'above floor',
    firmware: tcbWords(get(report, 'reportedTcb') as Record<string, unknown> | undefined),
    measurement: short(get(report, 'measurement')),
  }
}

function revocationWords(result: AttestationResult): string {
  const crl = result.endorsements.find((item) => item.kind.startsWith('CRL'))
  const waived = result.checks.some((check) => /^(snp|tdx)\.crl/.test(check.id) && result.waived.includes(check.id))
  if (waived || crl === undefined) return 'revocation not checked'
  return `not revoked (list of ${crl.issuedAt?.slice(0, 10) ?? 'unknown date'})`
}

function tcbWords(tcb: Record<string, unknown> | undefined): string {
  if (tcb === undefined) return ''
  return Object.entries(tcb)
    .filter(([, value]) => typeof value === 'number')
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')
}

function refused(result: AttestationResult, style: Style, registry: ReadonlyMap<string, CheckDefinition>): string[] {
  const failed = result.checks.filter((check) => check.status === 'fail')
  const missing = result.checks.filter(
    (check) =>
      check.status === 'skip' && !result.waived.includes(check.id) && !/^(needs |not reached)/.test(check.reason ?? ''),
  )
  const shown = [...failed, ...missing]
  const passed = result.checks.filter((check) => check.status === 'pass').length
  const other = result.checks.length - shown.length
  const [foremost] = shown
  const advice = foremost === undefined ? undefined : registry.get(foremost.id)?.advice
  return [
    ...first(style.bad, style.strong, result.verdict.toUpperCase(), headline(result)),
    '',
    ...shown.flatMap((check) => standing(check, style, registry.get(check.id))),
    ...wrap(
      `${other} other checks: ${passed} passed, ${result.waived.length} waived, ${
        other - passed - result.waived.length
      } need one of the above.`,
      '  ',
    ),
    '',
    ...(foremost === undefined
      ? []
      : wrap(
          `Next: ${advice === undefined ? '' : `${advice.replace(/\.$/, '')}; `}verify-attestation --explain ${foremost.id}`,
          '',
        )),
  ]
}

function headline(result: AttestationResult): string {
  if (result.verdict === 'malformed') return 'this is not evidence that can be read'
  if (result.verdict === 'unavailable') return 'nothing wrong was found, but something needed is not at hand'
  if (!result.authentic) return 'not proven genuine'
  return `${isPrivate(result) ? '' : 'genuine: '}${subject(result)}; but not acceptable to your policy`
}

function standing(check: Check, style: Style, definition: CheckDefinition | undefined): string[] {
  const mark = check.status === 'fail' ? style.bad('x') : '-'
  const lines = wrap(printable(check.reason ?? ''), '      ')
  const gain = definition === undefined ? [] : wrap(definition.gain, '      ').map(style.dim)
  const detail = [
    ...(check.expected === undefined ? [] : [`      expected ${clip(printable(check.expected))}`]),
    ...(check.actual === undefined ? [] : [`      found    ${clip(printable(check.actual))}`]),
  ]
  return [`  ${mark} ${style.strong(check.id)}`, ...lines, ...detail, ...gain]
}

function checkLine(check: Check, result: AttestationResult, style: Style): string {
  const mark = check.status === 'pass' ? style.good('ok') : check.status === 'fail' ? style.bad('x ') : '- '
  const text = check.status === 'pass' ? check.title : (check.reason ?? check.title)
  const waived = result.waived.includes(check.id) ? style.bad : (t: string) => t
  return `  ${mark} ${check.id.padEnd(28)} ${waived(printable(text))}`
}

const bullet = (reason: string): string[] =>
  wrap(printable(reason.replace(/^waived: /, '')), '    ').map((line, i) =>
    i === 0 ? `  - ${line.trimStart()}` : line,
  )

/** Beside 15 columns of label; the ellipsis may become three dots. */
const clip = (text: string) => (text.length > WIDTH - 15 ? `${text.slice(0, WIDTH - 18)}…` : text)

function wrap(text: string, indent: string): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > WIDTH) {
      lines.push(indent + line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  lines.push(indent + line)
  return lines
}

/** What `--explain CHECK` prints. */
export function renderExplanation(definition: CheckDefinition): string {
  return `${[
    definition.id,
    '',
    ...wrap(`Passes when: ${definition.title}.`, '  '),
    ...wrap(`Without it: ${definition.gain}`, '  '),
    ...wrap(`Source: ${definition.spec}`, '  '),
    ...(definition.advice === undefined ? [] : wrap(`When it fails: ${definition.advice}.`, '  ')),
    ...(definition.needs === undefined ? [] : wrap(`Needs: ${definition.needs.join(', ')}`, '  ')),
  ].join('\n')}\n`
}
