/** Shared cases as command lines of `verify-attestation`: what a case asks for becomes options, files and a policy. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { POLICY_SCHEMA } from '../../verifier/policy.js'
import type { NvidiaCase } from '../gpu/cases.js'
import { evidenceOf, type SnpCase, readConformance as snpConformance } from '../snp/cases.js'
import { bytesOf, type TdxCase, readConformance as tdxConformance } from '../tdx/cases.js'

/** Where a case's files come from, and a folder of its own for those it needs written. */
export interface Place {
  readonly vectors: string
  readonly folder: string
}

type CommandLine = readonly string[]

/** Common to every kind of case. */
interface Common {
  readonly at: string
  readonly revocation: string
  readonly nonce?: string
}

export function snpCommand(place: Place, c: SnpCase): CommandLine {
  const carried = c.conformance === undefined ? undefined : snpConformance(join(place.vectors, c.conformance))
  const asItIs = c.report !== undefined && c.firstBytes === undefined && c.quote === undefined
  const whole = (): Uint8Array => carried?.report ?? evidenceOf(place.vectors, c)
  const measurements = c.measurement === undefined ? {} : { measurements: [{ digest: c.measurement }] }
  return [
    asItIs ? join(place.vectors, c.report) : write(place, 'evidence', whole().slice(0, c.firstBytes)),
    ...endorsements(place, c.endorsements, carried?.files),
    ...common(c),
    ...flag('--tcb-floor', c.tcbFloor),
    ...flag('--report-data', c.reportData),
    ...anchor(place, c.trustAnchor === true ? carried?.root : undefined),
    ...policy(place, { ...measurements, ...(c.snp === undefined ? {} : { snp: c.snp }) }),
    ...(c.measurement === undefined ? ['--any-measurement'] : []),
  ]
}

export function tdxCommand(place: Place, c: TdxCase): CommandLine {
  const carried = c.conformance === undefined ? undefined : tdxConformance(join(place.vectors, c.conformance))
  const { acceptedStatuses, ...rest } = c.tdx ?? {}
  const minimum = c.minTcbEvaluationDataNumber
  const tdx = { ...rest, ...(minimum === undefined ? {} : { minTcbEvaluationDataNumber: minimum }) }
  return [
    carried === undefined ? tdxTarget(place, c) : write(place, 'quote', carried.quote),
    ...endorsements(place, c.endorsements, carried?.files),
    ...common(c),
    ...flag('--tcb-status', acceptedStatuses?.join(',')),
    ...flag('--report-data', c.reportData),
    ...anchor(place, c.trustAnchor === true ? carried?.root : undefined),
    ...policy(place, Object.keys(tdx).length === 0 ? {} : { tdx }),
    '--any-measurement',
  ]
}

/** What comes beside a quote travels with it, in the container agents put it in. */
function tdxTarget(place: Place, { quote = '', eventLog, hclReport }: TdxCase): string {
  const read = (path: string): string => Buffer.from(bytesOf(join(place.vectors, path))).toString('base64')
  if (eventLog !== undefined) {
    return write(place, 'evidence.json', JSON.stringify({ quote: read(quote), cc_eventlog: read(eventLog) }))
  }
  if (hclReport !== undefined) {
    return write(place, 'evidence.json', JSON.stringify({ td_quote: read(quote), hcl_report: read(hclReport) }))
  }
  return join(place.vectors, quote)
}

export function nvidiaCommand(place: Place, c: NvidiaCase): CommandLine {
  const { missingFwid, ...gpu } = (c.policy ?? {}) as Readonly<Record<string, unknown>>
  // `gpu nras` accepts the remote verifier where no policy file says otherwise.
  const unsaid = JSON.stringify(gpu) === (c.nras === undefined ? '{}' : '{"nras":{}}')
  const options = [
    ...common(c),
    ...(missingFwid === 'allowed' ? ['--allow-missing-fwid'] : []),
    ...policy(place, unsaid ? {} : { gpu }),
    '--any-measurement',
  ]
  const files = c.endorsements.map((path) => join(place.vectors, path))
  if (c.nras !== undefined) {
    return ['gpu', 'nras', join(place.vectors, c.nras), ...list('--jwks', files), ...options]
  }
  const target = c.rim === undefined ? gpuTargets(place, c) : ['gpu', 'rim', join(place.vectors, c.rim)]
  return [...target, ...list('--endorsements', files), ...options]
}

function gpuTargets(place: Place, { gpus = [], switches = [], firstBytes }: NvidiaCase): CommandLine {
  const cut = (path: string): string => {
    const whole = join(place.vectors, path)
    return firstBytes === undefined ? whole : write(place, 'report', bytesOf(whole).slice(0, firstBytes))
  }
  return [
    'gpu',
    ...gpus.map(cut),
    ...list(
      '--switch',
      switches.map((path) => join(place.vectors, path)),
    ),
  ]
}

function common({ at, revocation, nonce }: Common): CommandLine {
  return ['--offline', '--format', 'json', '--at', at, '--revocation', revocation, ...flag('--nonce', nonce)]
}

function endorsements(
  place: Place,
  paths: readonly string[],
  carried: readonly { readonly name: string; readonly bytes: Uint8Array }[] = [],
): CommandLine {
  const written = carried.map(({ name, bytes }) => write(place, name, bytes))
  return list('--endorsements', [...written, ...paths.map((path) => join(place.vectors, path))])
}

function anchor(place: Place, pem: string | undefined): CommandLine {
  return pem === undefined ? [] : ['--trust-anchor', write(place, 'root.pem', pem)]
}

function policy(place: Place, members: Readonly<Record<string, unknown>>): CommandLine {
  if (isEmpty(members)) return []
  return ['--policy', write(place, 'policy.json', JSON.stringify({ schema: POLICY_SCHEMA, ...members }))]
}

function flag(name: string, value: string | undefined): CommandLine {
  return value === undefined ? [] : [name, value]
}

function list(name: string, values: readonly string[]): CommandLine {
  return values.length === 0 ? [] : [name, ...values]
}

function write({ folder }: Place, name: string, contents: Uint8Array | string): string {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, name)
  writeFileSync(path, contents)
  return path
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}
