/** `subrosa bench`: what readers of a model see as more of them come. */
import { existsSync } from 'node:fs'
import { open, readFile, rm, writeFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { connect } from '../../client/node.js'
import { refuseUnsafe } from '../../client/prompt-safety.js'
import { DEVICES, type Device } from '../../enclave/inference/device.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { SubrosaError } from '../../verifier/errors.js'
import { addVerificationOptions, resolveFlags, type VerificationFlags } from '../../verifier/options.js'
import { type LoadLevel, measureLoad, type Target } from './measure.js'
import { plotLoad } from './plot.js'
import { engineTarget, workerTarget } from './targets.js'

interface BenchFlags extends VerificationFlags {
  readonly model?: string
  readonly server?: string
  readonly device?: Device
  readonly readers: readonly number[]
  readonly rounds: number
  readonly promptTokens: number
  readonly answerTokens: number
  readonly svg?: string
  readonly json?: boolean
}

const MOST_READERS = 1024

/** Adds `bench` to the dispatcher. */
export function registerBench(program: Command, { stdout }: { readonly stdout: NodeJS.WritableStream }): void {
  const bench = program
    .command('bench')
    .description('how fast a model answers as more readers come: this machine’s engine, or a verified worker')
    .argument('[url]', 'worker URL; without one, the engine in this process')
    .option('--model <dir>', 'model package to load here (default: the demo model)')
    .option('--server <file>', 'an OpenAI-compatible server to launch and measure, described in JSON')
    .addOption(new Option('--device <device>', 'where the engine computes (default: cpu)').choices(DEVICES))
    .option('--readers <n,n,...>', 'readers at once, one level after the other', parseLevels, [1, 2, 4, 8, 16])
    .option('--rounds <n>', 'answers for each reader at each level', parseCount, 3)
    .option('--prompt-tokens <n>', 'length of each prompt; for a worker about so many', parseCount, 128)
    .option('--answer-tokens <n>', 'most tokens of each answer', parseCount, 64)
    .option('--svg <file>', 'draw latency against load into FILE')
    .option('--json', 'print one JSON object')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (url: string | undefined, flags: BenchFlags) => {
      if (flags.svg !== undefined) await expectWritable(flags.svg)
      const target = url === undefined ? await localTarget(flags) : await remoteTarget(url, flags)
      try {
        await run(target, flags, (text) => void stdout.write(`${text}\n`))
      } finally {
        await target.close()
      }
    })
  addVerificationOptions(bench)
}

async function localTarget({ model, server, device, readers }: BenchFlags): Promise<Target> {
  if (server !== undefined && device !== undefined) {
    throw new SubrosaError('option.conflict', '--device is for the built-in engine: a server chooses its own')
  }
  return engineTarget(model ?? defaultModelDirectory(), Math.max(...readers), {
    ...(server === undefined ? {} : { server: await readServer(server) }),
    ...(device === undefined ? {} : { device }),
  })
}

async function remoteTarget(url: string, flags: BenchFlags): Promise<Target> {
  if (flags.model !== undefined || flags.server !== undefined || flags.device !== undefined) {
    throw new SubrosaError(
      'option.conflict',
      '--model, --server and --device measure an engine here: leave out the URL, or them',
    )
  }
  refuseUnsafe(flags)
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  const judge = sigstore === undefined ? {} : { sigstore }
  return workerTarget(await connect(url, { policy: { resolved: policy }, endorsements, ...judge }), url)
}

async function run(target: Target, flags: BenchFlags, print: (text: string) => void): Promise<void> {
  const { readers: levels, rounds, promptTokens, answerTokens, svg, json } = flags
  const what = `prompts of ${promptTokens} tokens, answers of up to ${answerTokens}, ${rounds} for each reader`
  if (json !== true) print(`${target.title}\n${target.path}\n${what}\n\n${HEAD}`)
  const measured = await measureLoad(target, {
    levels,
    rounds,
    promptTokens,
    answerTokens,
    monotonicMs: () => performance.now(),
    ...(json === true ? {} : { onLevel: (level) => print(row(level)) }),
  })
  if (json === true) {
    print(
      JSON.stringify({ target: target.title, path: target.path, promptTokens, answerTokens, rounds, levels: measured }),
    )
  }
  if (svg === undefined) return
  await writeSvg(svg, plotLoad(target.title, what, measured))
  if (json !== true) print(`\nlatency against load: ${svg}`)
}

const HEAD = [
  'readers   tokens/s   first token ms      between tokens ms   tokens   memory',
  '                        p50      p99        p50      p99',
].join('\n')

function row({ readers, tokensPerSecond, firstTokenMs, betweenTokensMs, tokens, memoryBytes }: LoadLevel): string {
  const number = (value: number | undefined, width: number): string => (value?.toFixed(1) ?? '-').padStart(width)
  const memory = memoryBytes === undefined ? '-' : `${(memoryBytes / 2 ** 20).toFixed(0)} MiB`
  return [
    String(readers).padStart(7),
    number(tokensPerSecond, 11),
    number(firstTokenMs.p50, 9),
    number(firstTokenMs.p99, 9),
    number(betweenTokensMs?.p50, 11),
    number(betweenTokensMs?.p99, 9),
    String(tokens).padStart(9),
    memory.padStart(9),
  ].join('')
}

async function readServer(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (cause) {
    throw new SubrosaError('file.unreadable', `--server: expected a JSON file that can be read, ${path}`, { cause })
  }
}

/** Before minutes of measuring. Leaves what is there as it is. @throws SubrosaError `file.unwritable`. */
async function expectWritable(path: string): Promise<void> {
  const before = existsSync(path)
  try {
    await (await open(path, 'a')).close()
    if (!before) await rm(path)
  } catch (cause) {
    throw new SubrosaError('file.unwritable', `--svg: cannot write ${path}`, { cause })
  }
}

async function writeSvg(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text)
  } catch (cause) {
    throw new SubrosaError('file.unwritable', `--svg: cannot write ${path}`, { cause })
  }
}

function parseLevels(value: string): number[] {
  const levels = value.split(',').map((part) => parseCount(part))
  if (levels.some((level, i) => level > MOST_READERS || level <= (levels[i - 1] ?? 0))) {
    throw new InvalidArgumentError(`expected ascending numbers up to ${MOST_READERS}, as 1,4,16`)
  }
  return levels
}

function parseCount(value: string): number {
  const count = Number(value)
  if (/^\d{1,6}$/.test(value) && count > 0) return count
  throw new InvalidArgumentError('expected a whole number from 1 to 999999')
}
