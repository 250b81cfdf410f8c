/** Printing one verdict in the format asked for. Node only. */
import { type Command, Option } from 'commander'
import type { Bytes } from './protocol/bytes.js'
import { type AttestationResult, exitCodeOf, resultToJson } from './result.js'
import { forStream, terminalStyle } from './terminal.js'
import { renderResult } from './text.js'

export interface Output {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

const FORMATS = ['text', 'json', 'ear', 'cmw'] as const
export type Format = (typeof FORMATS)[number]

export interface PrintFlags {
  readonly format: Format
  readonly explain?: string | true
}

export function addPrintOptions(command: Command): Command {
  return command
    .addOption(formatOption(FORMATS))
    .option('--explain [check]', 'what a check means, what an attacker gains')
    .addOption(new Option('--verbose', 'show the stack of an unexpected error').hideHelp())
}

export function formatOption(choices: readonly Format[]): Option {
  return new Option('--format <format>', 'how to print').choices(choices).default('text')
}

/** Prints the verdict and returns its exit status. `evidence` is what `cmw` wraps: the bytes as they came. */
export async function printResult(
  result: AttestationResult,
  flags: PrintFlags,
  output: Output,
  evidence?: Bytes,
): Promise<number> {
  output.stdout.write(await render(result, flags, output, evidence))
  return exitCodeOf(result)
}

async function render(result: AttestationResult, flags: PrintFlags, output: Output, evidence?: Bytes): Promise<string> {
  switch (flags.format) {
    case 'json':
      return `${JSON.stringify(resultToJson(result), null, 2)}\n`
    case 'ear':
      return `${await (await import('./ear.js')).signEar(result)}\n`
    case 'cmw':
      return `${JSON.stringify(await (await import('./cmw.js')).wrapEvidence(result, evidence), null, 2)}\n`
    case 'text':
      return forStream(
        output.stdout,
        renderResult(result, {
          style: terminalStyle(output.stdout),
          // Only what stands in the way is explained, and the registry is large.
          registry: result.verdict === 'accepted' ? new Map() : (await import('./registry.js')).ALL_CHECKS,
          all: flags.explain === true,
        }),
      )
  }
}
