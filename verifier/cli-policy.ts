/** `verify-attestation policy init`: a policy from a worker or bundle, on standard output. Node only. */
import { Argument, type Command } from 'commander'
import { parse } from 'yaml'
import { MEASURE_SCHEMA } from './cli-measure.js'
import { PolicyError, UsageError } from './errors.js'
import { loadFile } from './files.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { type AppraisalPolicy, POLICY_SCHEMA, type ReferenceMeasurement, resolvePolicy } from './policy.js'
import {
  firstLookPolicy,
  measuredPolicy,
  releasePolicy,
  writeMeasuredPolicy,
  writePolicy,
  writeReleasePolicy,
} from './policy-init.js'
import type { Output } from './print.js'
import { fromUtf8 } from './protocol/bytes.js'
import { ALL_CHECKS } from './registry.js'
import type { ReleasePolicyDocument } from './release/policy.js'
import { type AttestationResult, exitCodeOf } from './result.js'
import { terminalStyle } from './terminal.js'
import { renderResult } from './text.js'
import { appraiserFor, verifyTarget } from './verify-target.js'

interface Flags extends VerificationFlags {
  readonly trustOnFirstUse?: boolean
  readonly releaseKey?: readonly string[]
  readonly logKey?: string
  readonly unlogged?: boolean
  readonly measured?: string
}

export function registerPolicy(program: Command, output: Output, done: (status: number) => void): void {
  const policy = program.command('policy').description('write appraisal policies').enablePositionalOptions()
  const init = policy
    .command('init')
    .description('write a policy (YAML) from a worker or bundle, all of it but the software strictly verified')
    .addArgument(new Argument('<target>', 'worker URL or bundle'))
    .option('--trust-on-first-use', 'take the software it reports for the software you want')
    .option('--release-key <key...>', 'take the software of releases signed by this key')
    .option('--log-key <key>', 'log the releases must be in; else say --unlogged')
    .option('--unlogged', 'take releases that no log has')
    .option('--measured <file>', 'take the launches that measure --format json printed')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (target: string, flags: Flags) => {
      done(await run(target, flags, output))
    })
  addVerificationOptions(init)
}

async function run(target: string, flags: Flags, output: Output): Promise<number> {
  if (flags.anyMeasurement === true) {
    throw new UsageError(
      'policy.any-measurement',
      '--any-measurement: a policy written from a worker names its software',
    )
  }
  const releases = releasesFor(flags)
  const measured = flags.measured === undefined ? undefined : await loadMeasured(flags.measured)
  const asked = await resolveFlags(flags)
  const { look, write } = sourceOf(target, flags, asked.policy, releases, measured)
  const appraise = appraiserFor(flags, output)
  const { evidence, result } = await verifyTarget(target, { ...asked, policy: look }, appraise)
  if (result.verdict !== 'accepted') return refuse(result, output)
  if (result.evidence.kind !== 'bundle') {
    throw new UsageError(
      'policy.target',
      'policy init needs a worker or a bundle; raw evidence names no keys and no model',
    )
  }
  const text = write(result)
  if (text === undefined) throw new UsageError('policy.measurements', 'this evidence has no launch digest to name')
  // What is handed over must do what it says: the same evidence is held against the policy as a reader will read it.
  const policy = resolvePolicy(parse(text))
  const again = await appraise(evidence, { policy, endorsements: asked.endorsements, now: result.evaluatedAt })
  if (again.verdict !== 'accepted') return refuse(again, output)
  output.stdout.write(text)
  return 0
}

/** Where the reference values come from: the policy to look with, and what is written after an accepted look. */
interface Source {
  readonly look: AppraisalPolicy
  readonly write: (result: AttestationResult) => string | undefined
}

/** @throws UsageError when nothing says which software is wanted, or two things do. */
function sourceOf(
  target: string,
  { trustOnFirstUse }: Flags,
  asked: AppraisalPolicy,
  releases: ReleasePolicyDocument | undefined,
  measured: readonly ReferenceMeasurement[] | undefined,
): Source {
  const given = [releases !== undefined, measured !== undefined, trustOnFirstUse === true].filter(Boolean).length
  if (given > 1) {
    throw new UsageError(
      'policy.source',
      '--release-key, --measured and --trust-on-first-use each say what software is known: keep one',
    )
  }
  if (asked.releases !== undefined || asked.measurements.length > 0) {
    throw new UsageError(
      'policy.source',
      '--policy: it says already what software is known, which policy init would replace: use it as it is, or take that out',
    )
  }
  if (releases !== undefined) {
    const look = releasePolicy(asked, releases)
    return { look, write: (result) => writeReleasePolicy(look, releases, result) }
  }
  if (measured !== undefined) {
    if (asked.trustAnchors.length > 0) {
      throw new UsageError('policy.simulated', '--measured is for real hardware: simulated launches are nobody’s files')
    }
    if (typeof asked.model !== 'object' || asked.model.digests.length === 0) {
      throw new UsageError('policy.model', '--measured: name the model too, with --model-digest')
    }
    const look = measuredPolicy(asked, measured)
    return { look, write: (result) => writeMeasuredPolicy(look, result) }
  }
  if (trustOnFirstUse === true) {
    return { look: firstLookPolicy(asked), write: (result) => writePolicy(target, asked, result) }
  }
  throw new UsageError(
    'policy.first-use',
    'nothing here can tell whether the software is the one you want: name whose releases you take with --release-key, give launches you computed with --measured (verify-attestation measure), or accept that --trust-on-first-use takes what the worker reports, and every verdict under that policy will say so',
  )
}

/** What `measure --format json` printed. @throws UsageError on anything else, and on launches of firmware alone. */
async function loadMeasured(path: string): Promise<readonly ReferenceMeasurement[]> {
  const wrong = (why: string, cause?: unknown) =>
    new UsageError('policy.measured', `--measured: ${path} is not what measure --format json prints: ${why}`, { cause })
  let document: unknown
  try {
    document = JSON.parse(fromUtf8(await loadFile(path, 'measured launches', 1024 * 1024)))
  } catch (cause) {
    if (cause instanceof UsageError) throw cause
    throw wrong('not JSON', cause)
  }
  const { schema, launches } = (document ?? {}) as { readonly schema?: unknown; readonly launches?: unknown }
  if (schema !== MEASURE_SCHEMA || !Array.isArray(launches)) throw wrong(`expected schema ${MEASURE_SCHEMA}`)
  const measurements = launches.map((launch: { readonly name?: unknown; readonly values?: object }) => ({
    ...launch.values,
    name: launch.name,
  }))
  try {
    const resolved = resolvePolicy({ schema: POLICY_SCHEMA, measurements }).measurements
    return resolved === 'any' ? [] : resolved
  } catch (cause) {
    if (!(cause instanceof PolicyError)) throw cause
    throw wrong(`${cause.message}; a launch without --kernel is no reference value`, cause)
  }
}

/** @throws UsageError when the flags do not say how public releases must be, or contradict each other. */
function releasesFor({ releaseKey, logKey, unlogged }: Flags): ReleasePolicyDocument | undefined {
  if (releaseKey === undefined) {
    if (logKey === undefined && unlogged === undefined) return undefined
    throw new UsageError('policy.release-key', '--log-key and --unlogged go with --release-key')
  }
  if ((logKey === undefined) === (unlogged !== true)) {
    throw new UsageError(
      'policy.log-key',
      'name the log releases must be in with --log-key, or say --unlogged; one of them',
    )
  }
  return { keys: releaseKey, log: logKey === undefined ? 'unlogged' : { key: logKey } }
}

/** On standard error: what goes to standard output is about to become a file that somebody trusts. */
function refuse(result: AttestationResult, output: Output): number {
  output.stderr.write(renderResult(result, { style: terminalStyle(output.stderr), registry: ALL_CHECKS }))
  output.stderr.write('verify-attestation: no policy written\n')
  return exitCodeOf(result)
}
