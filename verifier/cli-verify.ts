/** The command line of `verify-attestation`, as a function of its arguments and streams. Node only. */
import { writeFile } from 'node:fs/promises'
import { Command, CommanderError } from 'commander'
import { detectEvidence } from './detect.js'
import { SubrosaError, UnavailableError, UsageError } from './errors.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { nearest } from './policy.js'
import { addPrintOptions, type Output, type PrintFlags, printResult } from './print.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult } from './result.js'
import { addEndorsements } from './save.js'
import { forStream } from './terminal.js'
import { printable, renderExplanation } from './text.js'
import { appraiserFor, verifyTarget } from './verify-target.js'
import { VERSION } from './version.js'

interface VerifyFlags extends VerificationFlags, PrintFlags {
  readonly save?: string
}

/** Adds a subcommand to the program; `done` gets the exit status, `whole` makes the program with every subcommand. */
export type Register = (
  program: Command,
  output: Output,
  done: (status: number) => void,
  whole: () => Promise<Command>,
) => void

/** Loaded when named: a plain verdict pays for none of them. */
const SUBCOMMANDS: Readonly<Record<string, (() => Promise<Register>) | undefined>> = {
  completion: async () => (await import('./cli-completion.js')).registerCompletion,
  gpu: async () => (await import('./cli-gpu.js')).registerGpu,
  measure: async () => (await import('./cli-measure.js')).registerMeasure,
  policy: async () => (await import('./cli-policy.js')).registerPolicy,
  receipt: async () => (await import('./cli-receipt.js')).registerReceipt,
  roots: async () => (await import('./cli-roots.js')).registerRoots,
  schema: async () => (await import('./cli-schema.js')).registerSchema,
  watch: async () => (await import('./cli-watch.js')).registerWatch,
}

const HELP = `
Commands (each has its own --help):
  gpu FILE…              NVIDIA reports, manifests and remote verdicts alone
  receipt FILE…          receipts of answers, against the worker’s bundle
  watch URL…             check again and again, a line for each change
  measure snp|tdx        launch digests from firmware, kernel and initrd
  policy init TARGET     write a policy from a worker or bundle you trust
  roots                  the vendors’ pinned keys;    schema NAME   JSON Schemas
  completion SHELL       completions for bash, zsh or fish
`

const MISUSE = 2
const MALFORMED = 3
const UNAVAILABLE = 4

/** Runs one command line and returns its exit status. Never throws, never prints a stack unless --verbose. */
export async function runVerifier(argv: readonly string[], output: Output): Promise<number> {
  let status = 0
  const program = baseProgram(output, (code) => {
    status = code
  })
  try {
    const register = await SUBCOMMANDS[argv[2] ?? '']?.()
    const done = (code: number) => {
      status = code
    }
    register?.(program.enablePositionalOptions(), output, done, () => wholeProgram(output))
    refuseEarlyOptions(program)
    await program.parseAsync([...argv])
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : MISUSE
    return report(error, argv.includes('--verbose'), output)
  }
}

/**
 * An option before a subcommand's name belongs to the command above it, which is not the one that runs: nobody would look
 * at it, and a verdict would pass for one under options it never saw.
 */
function refuseEarlyOptions(command: Command): void {
  command.hook('preSubcommand', (above, below) => {
    const early = above.options.find((option) => above.getOptionValueSource(option.attributeName()) === 'cli')
    if (early !== undefined) {
      throw new UsageError('option.order', `put ${early.long ?? early.flags} after ${below.name()}, which it is for`)
    }
  })
  for (const below of command.commands) refuseEarlyOptions(below)
}

/** The program with every subcommand, for whoever describes it: completions, the manual page. */
export async function wholeProgram(output: Output): Promise<Command> {
  const program = baseProgram(output, () => undefined)
  for (const load of Object.values(SUBCOMMANDS)) {
    ;(await load?.())?.(
      program,
      output,
      () => undefined,
      () => Promise.resolve(program),
    )
  }
  return program
}

function baseProgram(output: Output, done: (status: number) => void): Command {
  const program = new Command('verify-attestation')
    .description('Check who can read a prompt before you send it.')
    .argument('[target]', 'worker URL, bundle, or raw report (or its hex)')
    .version(VERSION, '--version')
    .option('--save <file>', 'keep a bundle that re-verifies offline')
    .addHelpText('after', HELP)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => output.stdout.write(text),
      writeErr: (text) => output.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'verify-attestation: ')),
    })
    .action(async (target: string | undefined, flags: VerifyFlags) => {
      done(await verify(target, flags, output))
    })
  return addVerificationOptions(addPrintOptions(program))
}

function report(error: unknown, verbose: boolean, output: Output): number {
  const known = error instanceof SubrosaError
  const message = error instanceof Error ? error.message : String(error)
  output.stderr.write(`verify-attestation: ${printable(known ? message : `unexpected: ${message}`)}\n`)
  if (verbose && error instanceof Error) output.stderr.write(`${error.stack}\n`)
  if (error instanceof UnavailableError) return UNAVAILABLE
  // A defect of ours is nobody's misuse, and what met it was not verified.
  return known ? MISUSE : MALFORMED
}

async function verify(target: string | undefined, flags: VerifyFlags, output: Output): Promise<number> {
  if (typeof flags.explain === 'string') {
    output.stdout.write(forStream(output.stdout, await explain(flags.explain)))
    if (target === undefined) return 0
  }
  if (target === undefined)
    throw new UsageError('target.missing', 'name a worker URL, a bundle or a report; --help shows how')
  const resolved = await resolveFlags(flags)
  const { evidence, result } = await verifyTarget(target, resolved, appraiserFor(flags, output))
  if (flags.save !== undefined) await save(flags.save, evidence, result, output)
  return printResult(result, flags, output, evidence)
}

async function save(path: string, evidence: Bytes, result: AttestationResult, output: Output): Promise<void> {
  const detected = detectEvidence(evidence)
  if (detected.kind !== 'bundle')
    throw new UsageError('option.save', '--save keeps bundles; raw evidence is saved already')
  if (result.verdict === 'malformed') throw new UsageError('option.save', '--save: what came is not a bundle')
  const bytes = addEndorsements(detected.bytes, result.endorsementBytes)
  try {
    await writeFile(path, bytes)
  } catch (cause) {
    throw new UsageError('option.save', `cannot write ${path}: ${(cause as Error).message}`, { cause })
  }
  output.stderr.write(`saved ${bytes.length} bytes to ${path}\n`)
}

async function explain(id: string): Promise<string> {
  // A good part of a cold start, which a plain verdict does not pay: receipts bring a JOSE library.
  const { ALL_CHECKS: checks } = await import('./registry.js')
  const definition = checks.get(id)
  if (definition === undefined) {
    const near = nearest(id, [...checks.keys()])
    const hint = near === undefined ? [...checks.keys()].join(' ') : `did you mean ${near}?`
    throw new UsageError('check.unknown', `there is no check ${id}; ${hint}`)
  }
  return renderExplanation(definition)
}
