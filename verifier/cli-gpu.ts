/** `verify-attestation gpu`: NVIDIA reports, manifests and remote verdicts on their own. Node only. */
import type { Command } from 'commander'
import { type GpuOptions, verifyGpuEvidence, verifyNrasResponse, verifyRimFile } from './appraise-gpu.js'
import { detectEvidence } from './detect.js'
import { mergePools, sortEndorsements } from './endorsements.js'
import { UsageError } from './errors.js'
import { loadEndorsements, loadFile } from './files.js'
import { ACCEPTED_NRAS, STRICT_GPU_POLICY } from './gpu/policy.js'
import type { OnlineOptions, OnlineResult } from './online.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { addPrintOptions, type Output, type PrintFlags, printResult } from './print.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult } from './result.js'
import { noticed, onlineFor } from './verify-target.js'

type Flags = VerificationFlags & PrintFlags

/** Adds `gpu`, `gpu rim` and `gpu nras`; `done` gets the exit status. */
export function registerGpu(program: Command, output: Output, done: (status: number) => void): void {
  const gpu = program
    .command('gpu')
    .description('check NVIDIA reports on their own: binary, hex or base64, or nvattest JSON')
    .argument('[file...]', 'reports or evidence JSON, one or more GPUs')
    .option('--switch <file...>', 'evidence of NVSwitches on the same board')
    .enablePositionalOptions()
    .action(async (files: string[], flags: Flags & { switch?: string[] }) => {
      const switches = flags.switch ?? []
      if (files.length + switches.length === 0) {
        throw new UsageError('target.missing', 'name a report or evidence JSON, or switches with --switch')
      }
      const options = await optionsFor(flags)
      const [devices, beside] = await Promise.all([load(files), load(switches)])
      const result =
        flags.offline === true
          ? await verifyGpuEvidence(devices, beside, options)
          : await withNetwork(output, ({ verifyGpuOnline }, online) =>
              verifyGpuOnline(devices, beside, options, online),
            )
      done(await printResult(result, flags, output))
    })
  const rim = gpu
    .command('rim')
    .description('check one reference integrity manifest')
    .argument('<file>', 'manifest, XML')
    .action(async (file: string, flags: Flags) => {
      const options = await optionsFor(flags)
      if (options.nonce !== undefined) throw new UsageError('option.nonce', '--nonce: a manifest answers none')
      const manifest = await loadFile(file, 'manifest')
      const result =
        flags.offline === true
          ? await verifyRimFile(manifest, options)
          : await withNetwork(output, ({ verifyRimOnline }, online) => verifyRimOnline(manifest, options, online))
      done(await printResult(result, flags, output))
    })
  const nras = gpu
    .command('nras')
    .description(
      'check an answer of NVIDIA’s remote verifier, trusting it for this one verdict unless --policy decides',
    )
    .argument('<response>', 'JSON as the service answered')
    .option('--jwks <file...>', 'key set the service published')
    .action(async (file: string, flags: Flags & { jwks?: string[] }) => {
      const options = await optionsFor(flags)
      const keys = sortEndorsements(await loadEndorsements(flags.jwks ?? []))
      const pool = options.endorsements === undefined ? keys : mergePools(options.endorsements, keys)
      const base = options.policy.gpu === 'none' ? STRICT_GPU_POLICY : options.policy.gpu
      // A policy file is the user's word on whom to trust; only without one does asking for this check say it.
      const named = flags.policy !== undefined || base.nras !== 'refused'
      const policy = { ...options.policy, gpu: named ? base : { ...base, nras: ACCEPTED_NRAS } }
      const result = await verifyNrasResponse(await loadFile(file, 'response'), {
        ...options,
        policy,
        endorsements: pool,
      })
      done(await printResult(result, flags, output))
    })
  for (const command of [gpu, rim, nras]) addVerificationOptions(addPrintOptions(command))
}

type OnlineGpu = typeof import('./online-gpu.js')

async function withNetwork(
  output: Output,
  appraise: (verifiers: OnlineGpu, online: OnlineOptions) => Promise<OnlineResult>,
): Promise<AttestationResult> {
  const [verifiers, online] = await Promise.all([import('./online-gpu.js'), onlineFor(output)])
  return noticed(await appraise(verifiers, online), output)
}

async function optionsFor(flags: Flags): Promise<GpuOptions> {
  if (flags.reportData !== undefined) throw new UsageError('option.report-data', '--report-data is for CPU reports')
  if (flags.gpu === 'none') throw new UsageError('option.gpu', '--gpu none: there is nothing here but GPU evidence')
  const { policy, endorsements, at, nonce, modelNamed } = await resolveFlags(flags)
  if (modelNamed) throw new UsageError('option.model', '--model-digest: GPU evidence names no model')
  if (nonce !== undefined && nonce.length !== 32)
    throw new UsageError('option.nonce', '--nonce: an SPDM nonce has 32 bytes')
  return { policy, endorsements, now: at ?? new Date(), ...(nonce === undefined ? {} : { nonce }) }
}

async function load(files: readonly string[]): Promise<Bytes[]> {
  return Promise.all(files.map(async (file) => detectEvidence(await loadFile(file, 'evidence')).bytes))
}
