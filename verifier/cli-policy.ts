/** `verify-attestation policy init`: a policy from a worker or bundle, on standard output. Node only. */
import { Argument, type Command, Option } from 'commander'
import { parse } from 'yaml'
import { UsageError } from './errors.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { resolvePolicy } from './policy.js'
import { firstLookPolicy, writePolicy } from './policy-init.js'
import type { Output } from './print.js'
import { ALL_CHECKS } from './registry.js'
import { type AttestationResult, exitCodeOf } from './result.js'
import { terminalStyle } from './terminal.js'
import { renderResult } from './text.js'
import { appraiserFor, verifyTarget } from './verify-target.js'

interface Flags extends VerificationFlags {
  readonly trustOnFirstUse?: boolean
  readonly releaseKey?: string
}

export function registerPolicy(program: Command, output: Output, done: (status: number) => void): void {
  const policy = program.command('policy').description('write appraisal policies').enablePositionalOptions()
  const init = policy
    .command('init')
    .description('write a policy (YAML) from a worker or bundle, all of it but the software strictly verified')
    .addArgument(new Argument('<target>', 'worker URL or bundle'))
    .option('--trust-on-first-use', 'take the software it reports for the software you want')
    .addOption(new Option('--release-key <key>', 'not available in this release'))
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (target: string, flags: Flags) => {
      done(await run(target, flags, output))
    })
  addVerificationOptions(init)
}

async function run(target: string, flags: Flags, output: Output): Promise<number> {
  if (flags.releaseKey !== undefined) {
    throw new UsageError(
      'policy.release-key',
      '--release-key: signed release manifests are not available in this release',
    )
  }
  if (flags.trustOnFirstUse !== true) {
    throw new UsageError(
      'policy.first-use',
      'nothing here can tell whether the software is the one you want; --trust-on-first-use takes what the worker reports, and every verdict under that policy will say so',
    )
  }
  if (flags.anyMeasurement === true) {
    throw new UsageError(
      'policy.any-measurement',
      '--any-measurement: a policy written from a worker names its software',
    )
  }
  const asked = await resolveFlags(flags)
  const appraise = appraiserFor(flags, output)
  const { evidence, result } = await verifyTarget(target, { ...asked, policy: firstLookPolicy(asked.policy) }, appraise)
  if (result.verdict !== 'accepted') return refuse(result, output)
  if (result.evidence.kind !== 'bundle') {
    throw new UsageError(
      'policy.target',
      'policy init needs a worker or a bundle; raw evidence names no keys and no model',
    )
  }
  const text = writePolicy(target, asked.policy, result)
  if (text === undefined) throw new UsageError('policy.measurements', 'this evidence has no launch digest to name')
  // What is handed over must do what it says: the same evidence is held against the policy as a reader will read it.
  const policy = resolvePolicy(parse(text))
  const again = await appraise(evidence, { policy, endorsements: asked.endorsements, now: result.evaluatedAt })
  if (again.verdict !== 'accepted') return refuse(again, output)
  output.stdout.write(text)
  return 0
}

/** On standard error: what goes to standard output is about to become a file that somebody trusts. */
function refuse(result: AttestationResult, output: Output): number {
  output.stderr.write(renderResult(result, { style: terminalStyle(output.stderr), registry: ALL_CHECKS }))
  output.stderr.write('verify-attestation: no policy written\n')
  return exitCodeOf(result)
}
