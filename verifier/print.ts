/** Printing one verdict in the format asked for. Node only. */
import { type Command, Option } from 'commander'
import { type AttestationResult, exitCodeOf, resultToJson } from './result.js'
import { terminalStyle } from './terminal.js'
import { renderResult } from './text.js'

export interface Output {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

export interface PrintFlags {
  readonly format: 'text' | 'json'
  readonly explain?: string | true
}

export function addPrintOptions(command: Command): Command {
  return command
    .addOption(new Option('--format <format>', 'how to print the verdict').choices(['text', 'json']).default('text'))
    .option('--explain [check]', 'what a check means and what an attacker gains without it')
    .option('--verbose', 'show the stack of an unexpected error')
}

/** Prints the verdict and returns its exit status. */
export async function printResult(result: AttestationResult, flags: PrintFlags, output: Output): Promise<number> {
  const text =
    flags.format === 'json'
      ? `${JSON.stringify(resultToJson(result), null, 2)}\n`
      : renderResult(result, {
          style: terminalStyle(output.stdout),
          // Only what stands in the way is explained, and the registry is large.
          registry: result.verdict === 'accepted' ? new Map() : (await import('./registry.js')).ALL_CHECKS,
          all: flags.explain === true,
        })
  output.stdout.write(text)
  return exitCodeOf(result)
}
