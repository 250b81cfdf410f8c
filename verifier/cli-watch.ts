/** `verify-attestation watch`: workers checked on an interval, one line for each change of verdict. Node only. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { UsageError } from './errors.js'
import { parseWorkerUrl } from './fetch-evidence.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from './options.js'
import { formatOption, type Output } from './print.js'
import { terminalStyle } from './terminal.js'
import { printable, type Style } from './text.js'
import { appraiserFor, isUrl, verifyTarget } from './verify-target.js'
import { type Observation, watchWorkers } from './watch.js'

interface Flags extends VerificationFlags {
  readonly interval: string
  readonly format: 'text' | 'json'
}

export const WATCH_SCHEMA = 'subrosa-watch/1'
const MIN_INTERVAL_S = 1
const MAX_INTERVAL_S = 86_400

export function registerWatch(program: Command, output: Output, done: (status: number) => void): void {
  const command = program
    .command('watch')
    .description('check workers again and again; a line for each change of verdict, until Ctrl-C')
    .argument('<url...>', 'workers')
    .option('--interval <seconds>', 'time between checks', '60')
    .addOption(formatOption(['text', 'json']))
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (urls: string[], flags: Flags) => {
      await run(urls, flags, output)
      done(0)
    })
  addVerificationOptions(command)
}

async function run(urls: readonly string[], flags: Flags, output: Output): Promise<void> {
  const interval = parseInterval(flags.interval)
  for (const url of urls) {
    if (!isUrl(url)) throw new UsageError('watch.target', `watch: expected a worker URL, got ${url.slice(0, 100)}`)
    parseWorkerUrl(url)
  }
  for (const [option, given] of [
    ['--at', flags.at],
    ['--nonce', flags.nonce],
    ['--report-data', flags.reportData],
  ] as const) {
    if (given !== undefined) throw new UsageError('watch.option', `watch: ${option} is for one verdict, not for many`)
  }
  const resolved = await resolveFlags(flags)
  const appraise = appraiserFor(flags, output)
  const style = terminalStyle(output.stdout)
  const stop = new AbortController()
  const onSignal = () => stop.abort()
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    const watching = watchWorkers({
      urls: [...new Set(urls)],
      verify: async (url) => (await verifyTarget(url, resolved, appraise, stop.signal)).result,
      report: (seen) => output.stdout.write(flags.format === 'json' ? jsonLine(seen) : textLine(seen, style)),
      wait: () => sleep(interval * 1000, undefined, { signal: stop.signal }).catch(() => undefined),
      now: () => new Date(),
      signal: stop.signal,
    })
    // A check in flight is not waited for: whoever leaves, leaves now.
    await Promise.race([
      watching,
      new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve())),
    ])
  } finally {
    stop.abort()
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}

function parseInterval(text: string): number {
  const seconds = Number(text)
  if (!/^\d+(\.\d+)?$/.test(text) || seconds < MIN_INTERVAL_S || seconds > MAX_INTERVAL_S) {
    throw new UsageError(
      'watch.interval',
      `--interval: expected ${MIN_INTERVAL_S} to ${MAX_INTERVAL_S} seconds, got ${text}`,
    )
  }
  return seconds
}

function jsonLine({ url, at, verdict, previous, checks, reason }: Observation): string {
  return `${JSON.stringify({ schema: WATCH_SCHEMA, at: at.toISOString(), url, verdict, previous, checks, reason })}\n`
}

function textLine({ url, at, verdict, previous, checks, reason }: Observation, style: Style): string {
  const word = (verdict === 'accepted' ? style.good : style.bad)(verdict.toUpperCase())
  const was = previous === null || previous === verdict ? '' : `  (was ${previous})`
  const why = reason === null ? '' : `  ${checks[0] === undefined ? '' : `${checks[0]}: `}${printable(reason)}`
  return `${at.toISOString()}  ${word}  ${url}${was}${why}\n`
}
