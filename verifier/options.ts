/**
 * The verification options that `verify-attestation`, `connect`-style commands and `proxy` share, and how they become a
 * policy. A command line can only ever change what it names; everything else stays as the policy, or strict.
 */
import type { Command } from 'commander'
import { type EndorsementPool, sortEndorsements } from './endorsements.js'
import { UsageError } from './errors.js'
import { loadEndorsements, loadFile, loadPolicy } from './files.js'
import { STRICT_GPU_POLICY } from './gpu/policy.js'
import { readInstant } from './instant.js'
import { type AppraisalPolicy, type Revocation, STRICT_POLICY } from './policy.js'
import { type Bytes, fromHex } from './protocol/bytes.js'
import type { SigstoreVerifier } from './release/logged.js'
import { parseTcbFloor } from './snp/policy.js'
import { ACCEPTABLE_STATUSES, type AcceptableStatus } from './tdx/policy.js'
import { parseTrustAnchors } from './trust-anchors.js'

/** As commander hands them over. */
export interface VerificationFlags {
  readonly policy?: string
  readonly endorsements?: readonly string[]
  readonly offline?: boolean
  readonly at?: string
  readonly nonce?: string
  readonly reportData?: string
  readonly anyMeasurement?: boolean
  readonly revocation?: string
  readonly tcbFloor?: string
  readonly tcbStatus?: string
  readonly gpu?: string
  readonly allowMissingFwid?: boolean
  readonly modelDigest?: string
  readonly trustAnchor?: readonly string[]
}

/** Adds the options to a command, in the order the help shows them. */
export function addVerificationOptions(command: Command): Command {
  return command
    .option('--policy <file>', 'appraisal policy (YAML, JSON); left out is strict')
    .option('--endorsements <path...>', 'files or folders: certificates, CRLs, RIMs, …')
    .option('--offline', 'never touch the network for endorsements')
    .option('--at <time>', 'judge by this RFC 3339 time instead of now')
    .option('--nonce <hex>', 'nonce the evidence must contain')
    .option('--report-data <hex>', 'REPORT_DATA a raw report must carry')
    .option('--any-measurement', 'prove hardware only; software stays unidentified')
    .option('--tcb-status <list>', 'TDX statuses to accept, comma-separated')
    .option('--revocation <mode>', 'required (default), available or off')
    .option('--tcb-floor <value>', 'minimum SNP TCB (bl=4,tee=0,snp=22,…) or none')
    .option('--gpu <mode>', 'required (default for workers, bundles) or none')
    .option('--allow-missing-fwid', 'accept GPU firmware from before the FWID field')
    .option('--model-digest <hex>', 'manifest or weights digest of its model, or any')
    .option('--trust-anchor <file...>', 'extra root for private or simulated hardware')
}

export interface ResolvedVerification {
  readonly policy: AppraisalPolicy
  readonly endorsements: EndorsementPool
  readonly at?: Date
  readonly nonce?: Bytes
  readonly reportData?: Bytes
  /** A model was named on the command line: raw evidence has none, and nothing would look at it. */
  readonly modelNamed: boolean
  /** Where the policy wants a Sigstore bundle. */
  readonly sigstore?: SigstoreVerifier
}

/** @throws UsageError or PolicyError, before any network, on anything that cannot be meant. */
export async function resolveFlags(flags: VerificationFlags): Promise<ResolvedVerification> {
  const base = flags.policy === undefined ? STRICT_POLICY : await loadPolicy(flags.policy)
  const anchors = []
  for (const path of flags.trustAnchor ?? []) anchors.push(...parseTrustAnchors(await loadFile(path, 'trust anchor')))
  const policy: AppraisalPolicy = {
    ...base,
    trustAnchors: [...base.trustAnchors, ...anchors],
    ...(flags.anyMeasurement === true ? { measurements: 'any' as const, releases: undefined } : {}),
    ...(flags.revocation === undefined
      ? {}
      : { revocation: oneOf<Revocation>('--revocation', flags.revocation, ['required', 'available', 'off']) }),
    gpu: gpuFor(base, flags),
    ...(flags.modelDigest === undefined ? {} : { model: parseModelDigest(flags.modelDigest) }),
    ...(flags.tcbStatus === undefined
      ? {}
      : { tdx: { ...base.tdx, acceptedStatuses: parseStatuses(flags.tcbStatus) } }),
    ...(flags.tcbFloor === undefined ? {} : { snp: { ...base.snp, tcbFloor: parseTcbFloor(flags.tcbFloor) } }),
  }
  const { releases } = policy
  if (releases === undefined && (policy.model === 'release' || policy.image === 'release')) {
    throw new UsageError(
      'option.any-measurement',
      policy.model === 'release'
        ? '--any-measurement: your policy takes its models from releases, which that waives; name one with --model-digest, or say --model-digest any'
        : '--any-measurement: your policy takes its image from releases, which that waives; take image: release out of it',
    )
  }
  const wanted = releases !== undefined && typeof releases.log === 'object' && 'sigstore' in releases.log
  return {
    policy,
    modelNamed: flags.modelDigest !== undefined && flags.modelDigest !== 'any',
    ...(wanted ? { sigstore: (await import('./release/sigstore.js')).verifySigstoreBundle } : {}),
    endorsements: sortEndorsements(await loadEndorsements(flags.endorsements ?? [])),
    ...(flags.at === undefined ? {} : { at: parseTime(flags.at) }),
    ...(flags.nonce === undefined ? {} : { nonce: parseHex('--nonce', flags.nonce, 1, 64) }),
    ...(flags.reportData === undefined ? {} : { reportData: parseHex('--report-data', flags.reportData, 1, 64) }),
  }
}

function parseTime(text: string): Date {
  const time = readInstant(text)
  if (time !== undefined) return time
  throw new UsageError('option.time', `--at: expected an RFC 3339 time such as 2026-03-01T00:00:00Z, got ${text}`)
}

function parseHex(option: string, text: string, min: number, max: number): Bytes {
  const digits = text.startsWith('0x') ? text.slice(2) : text
  if (digits.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(digits) || digits.length < 2 * min || digits.length > 2 * max) {
    throw new UsageError('option.hex', `${option}: expected ${min} to ${max} bytes of hexadecimal`)
  }
  return fromHex(digits)
}

function parseModelDigest(text: string): AppraisalPolicy['model'] {
  if (text === 'any') return 'any'
  if (!/^[0-9a-fA-F]{64}$/.test(text)) {
    throw new UsageError('option.model', '--model-digest: expected 64 hexadecimal digits, or any')
  }
  return { digests: [text.toLowerCase()] }
}

function gpuFor(base: AppraisalPolicy, { gpu, allowMissingFwid }: VerificationFlags): AppraisalPolicy['gpu'] {
  const mode = gpu === undefined ? undefined : oneOf('--gpu', gpu, ['required', 'none'])
  if (mode === 'none') return 'none'
  const chosen = base.gpu === 'none' && mode === undefined ? 'none' : base.gpu === 'none' ? STRICT_GPU_POLICY : base.gpu
  if (allowMissingFwid !== true || chosen === 'none') return chosen
  return { ...chosen, missingFwid: 'allowed' }
}

function parseStatuses(text: string): readonly AcceptableStatus[] {
  const listed = text.split(',').map((word) => oneOf('--tcb-status', word.trim(), ACCEPTABLE_STATUSES))
  return [...new Set<AcceptableStatus>(['UpToDate', ...listed])]
}

function oneOf<T extends string>(option: string, text: string, allowed: readonly T[]): T {
  const found = allowed.find((value) => value === text)
  if (found === undefined)
    throw new UsageError('option.value', `${option}: expected ${allowed.join(', ')}; got ${text}`)
  return found
}
