/** The command line of `verify-attestation`, as a function of its arguments and streams. Node only. */
import { writeFile } from 'node:fs/promises'
import { Command, CommanderError } from 'commander'
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import type { CheckDefinition } from './checks.js'
import { detectEvidence } from './detect.js'
import { PolicyError, SubrosaError, UnavailableError, UsageError } from './errors.js'
import { fetchBundle, parseWorkerUrl } from './fetch-evidence.js'
import { loadFile } from './files.js'
import { addVerificationOptions, type ResolvedVerification, resolveFlags, type VerificationFlags } from './options.js'
import { nearest } from './policy.js'
import { addPrintOptions, type Output, type PrintFlags, printResult } from './print.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult } from './result.js'
import { addEndorsements } from './save.js'
import { renderExplanation } from './text.js'
import { VERSION } from './version.js'

interface VerifyFlags extends VerificationFlags, PrintFlags {
  readonly save?: string
}

const MISUSE = 2
const UNAVAILABLE = 4

/** Runs one command line and returns its exit status. Never throws, never prints a stack unless --verbose. */
export async function runVerifier(argv: readonly string[], output: Output): Promise<number> {
  let status = 0
  const program = new Command('verify-attestation')
    .description('Check who can read a prompt before you send it: a worker URL, a saved bundle, or a raw SNP report.')
    .argument('[target]', 'worker URL, bundle file, or raw report (binary, hex or base64)')
    .version(VERSION, '--version')
    .option('--save <file>', 'keep a self-contained bundle that re-verifies offline')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.stdout.write(text),
      writeErr: (text) => output.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'verify-attestation: ')),
    })
    .action(async (target: string | undefined, flags: VerifyFlags) => {
      status = await verify(target, flags, output)
    })
  addVerificationOptions(addPrintOptions(program))
  try {
    if (argv[2] === 'gpu') {
      const { registerGpu } = await import('./cli-gpu.js')
      registerGpu(program.enablePositionalOptions(), output, (code) => {
        status = code
      })
    }
    await program.parseAsync([...argv])
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSE
    return report(error, argv.includes('--verbose'), output)
  }
}

function report(error: unknown, verbose: boolean, output: Output): number {
  const known = error instanceof SubrosaError
  const message = error instanceof Error ? error.message : String(error)
  output.stderr.write(`verify-attestation: ${known ? message : `unexpected: ${message}`}\n`)
  if (verbose && error instanceof Error) output.stderr.write(`${error.stack}\n`)
  if (error instanceof UnavailableError) return UNAVAILABLE
  return error instanceof UsageError || error instanceof PolicyError ? MISUSE : MISUSE
}

async function verify(target: string | undefined, flags: VerifyFlags, output: Output): Promise<number> {
  if (typeof flags.explain === 'string') {
    output.stdout.write(await explain(flags.explain))
    if (target === undefined) return 0
  }
  if (target === undefined)
    throw new UsageError('target.missing', 'name a worker URL, a bundle or a report; --help shows how')
  const resolved = await resolveFlags(flags)
  const { evidence, result } = /^https?:/i.test(target)
    ? await verifyWorker(target, resolved, appraiserFor(flags, output))
    : await verifyFile(target, resolved, appraiserFor(flags, output))
  if (flags.save !== undefined) await save(flags.save, evidence, result, output)
  return printResult(result, flags, output)
}

type Appraise = (evidence: Bytes, options: VerifyOptions) => Promise<AttestationResult>

/** With a network, hardware makers are asked for what is missing and for the newest revocation lists. */
function appraiserFor(flags: VerifyFlags, output: Output): Appraise {
  if (flags.offline === true) return verifyEvidence
  return async (evidence, options) => {
    const [{ createEndorsementFetcher }, { createEndorsementStore, defaultStoreFolder }, { verifyOnline }] =
      await Promise.all([import('./endorsement-fetch.js'), import('./endorsement-store.js'), import('./online.js')])
    const isTerminal = (output.stderr as { isTTY?: boolean }).isTTY === true
    const fetcher = createEndorsementFetcher({
      fetch,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      store: createEndorsementStore(defaultStoreFolder(process.env), () => new Date()),
      onRequest: (url) => {
        if (isTerminal) output.stderr.write(`asking ${url.host} for ${url.pathname.split('/').at(-1)}…\n`)
      },
    })
    const { result, notice } = await verifyOnline(evidence, options, { fetcher, ...pccs() })
    if (notice !== undefined) output.stderr.write(`verify-attestation: ${notice}\n`)
    return result
  }
}

/** `SUBROSA_PCCS`: origin of a cache of Intel's collateral to ask instead of Intel. */
function pccs(): { origin?: string } {
  const origin = process.env['SUBROSA_PCCS']
  return origin === undefined || origin === '' ? {} : { origin: parseWorkerUrl(origin).origin }
}

interface Verified {
  readonly evidence: Bytes
  readonly result: AttestationResult
}

async function verifyWorker(target: string, resolved: ResolvedVerification, appraise: Appraise): Promise<Verified> {
  if (resolved.reportData !== undefined) {
    throw new UsageError('option.report-data', '--report-data is for raw reports; a worker’s REPORT_DATA is its claims')
  }
  const url = parseWorkerUrl(target)
  const nonce = resolved.nonce ?? crypto.getRandomValues(new Uint8Array(32))
  if (nonce.length !== 32) throw new UsageError('option.nonce', '--nonce: a worker takes exactly 32 bytes')
  const sentAt = new Date()
  const evidence = await fetchBundle(url, nonce, { fetch })
  const { policy, endorsements, at } = resolved
  // A nonce from the command line may have been used before, and --at is not the clock: neither proves that this is live.
  const live = resolved.nonce === undefined && at === undefined
  const options = { policy, endorsements, now: at ?? new Date(), ...(live ? { live: { nonce, sentAt } } : { nonce }) }
  return { evidence, result: await appraise(evidence, options) }
}

async function verifyFile(target: string, resolved: ResolvedVerification, appraise: Appraise): Promise<Verified> {
  const evidence = await loadFile(target, 'evidence')
  const { policy, endorsements, at, nonce, reportData } = resolved
  const isBundle = detectEvidence(evidence).kind === 'bundle'
  if (isBundle && reportData !== undefined) {
    throw new UsageError('option.report-data', '--report-data is for raw reports; a bundle’s REPORT_DATA is its claims')
  }
  const options = {
    policy,
    endorsements,
    now: at ?? new Date(),
    ...(nonce === undefined ? {} : { nonce }),
    ...(reportData === undefined ? {} : { reportData }),
  }
  return { evidence, result: await appraise(evidence, options) }
}

async function save(path: string, evidence: Bytes, result: AttestationResult, output: Output): Promise<void> {
  const detected = detectEvidence(evidence)
  if (detected.kind !== 'bundle')
    throw new UsageError('option.save', '--save keeps bundles; raw evidence is saved already')
  if (result.verdict === 'malformed') throw new UsageError('option.save', '--save: what came is not a bundle')
  const bytes = addEndorsements(detected.bytes, result.verdict === 'accepted' ? result.endorsementBytes : [])
  try {
    await writeFile(path, bytes)
  } catch (cause) {
    throw new UsageError('option.save', `cannot write ${path}: ${(cause as Error).message}`, { cause })
  }
  output.stderr.write(`saved ${bytes.length} bytes to ${path}\n`)
}

/** What an accepted verdict does not need, and a good part of a cold start: receipts bring a JOSE library. */
async function allChecks(): Promise<ReadonlyMap<string, CheckDefinition>> {
  return (await import('./registry.js')).ALL_CHECKS
}

async function explain(id: string): Promise<string> {
  const checks = await allChecks()
  const definition = checks.get(id)
  if (definition === undefined) {
    const near = nearest(id, [...checks.keys()])
    const hint = near === undefined ? [...checks.keys()].join(' ') : `did you mean ${near}?`
    throw new UsageError('check.unknown', `there is no check ${id}; ${hint}`)
  }
  return renderExplanation(definition)
}
