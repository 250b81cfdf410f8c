/**
 * `subrosa directory`: descriptors and directories, for providers and for whoever lists them. Nothing it makes or checks
 * says that a worker can be trusted. Node only.
 */
import { randomBytes } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { type Collection, collectDescriptors, directoryOf, type LeftOut } from '../../verifier/directory/collect.js'
import {
  type DescriptorSource,
  MAX_DESCRIPTOR_LIFETIME_S,
  parseDescriptorSource,
} from '../../verifier/directory/descriptor.js'
import { UsageError } from '../../verifier/errors.js'
import { loadFile } from '../../verifier/files.js'
import { printable } from '../../verifier/text.js'
import { parseYaml } from '../../verifier/yaml-text.js'
import type { CommandStreams } from '../cli-run.js'
import { stopSignal } from '../stop-signal.js'
import { readDescriptors } from './file-source.js'
import { createProviderKey, loadProviderKey, readProviderKey, signDescriptor } from './provider-key.js'
import { serveDirectory } from './serve.js'
import { readSources } from './sources.js'

interface BuildFlags {
  readonly out?: string
  readonly port?: number
  readonly every: number
}

interface DescriptorFlags {
  readonly key: string
  readonly days: number
  readonly sequence?: number
  readonly out?: string
}

export function registerDirectory(directory: Command, streams: CommandStreams, done: (status: number) => void): void {
  directory
    .argument('[from...]', 'files and URLs of descriptors and directories')
    .option('--out <file>', 'write the directory to FILE instead of printing it')
    .option(
      '--port <n>',
      'serve it on 127.0.0.1 at /.well-known/subrosa-directory, 0 for any free port',
      number(0, 65_535),
    )
    .option('--every <seconds>', 'read everything anew that often while serving', number(10, 86_400), 600)
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (from: readonly string[], flags: BuildFlags) => done(await runBuild(from, flags, streams)))
  directory
    .command('key')
    .description('make a provider’s key: the private one goes to a file of yours, the public one is printed')
    .requiredOption('--out <file>', 'where to write the private key; must not be there yet')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (flags: { readonly out: string }) => done(await runKey(flags.out, streams)))
  directory
    .command('descriptor')
    .description('sign what you say of your workers: endpoints, models, prices, regions')
    .argument('<file>', 'YAML or JSON: name and endpoints')
    .requiredOption('--key <file>', 'your private key, as subrosa directory key writes it')
    .option('--days <n>', 'how long it is in force, at most 31', number(1, MAX_DESCRIPTOR_LIFETIME_S / 86_400), 7)
    .option('--sequence <n>', 'its number, higher than any before; now, in seconds, by default', number(0, 2 ** 53 - 1))
    .option('--out <file>', 'write the descriptor to FILE instead of printing it')
    .option('--verbose', 'show the stack of an unexpected error')
    .action(async (file: string, flags: DescriptorFlags) => done(await runDescriptor(file, flags, streams)))
}

/** 0 with at least one descriptor kept; else 3, 1 or 4 for the gravest reason why there is none. */
async function runBuild(from: readonly string[], flags: BuildFlags, streams: CommandStreams): Promise<number> {
  if (from.length === 0) {
    throw new UsageError(
      'option.from',
      'name files or URLs of descriptors: subrosa directory https://gpu.example.net …',
    )
  }
  let newest: ReadonlyMap<string, number> | undefined
  const build = async () => {
    const { lists, failures } = await readSources(from, readDescriptors)
    const found = await collectDescriptors(lists, new Date(), newest)
    newest = found.newest
    return { ...found, leftOut: [...failures, ...found.leftOut] }
  }
  const collection = await build()
  const document = encode(collection)
  if (collection.kept.length === 0) {
    streams.stderr.write(summary(collection))
    return statusOf(collection.leftOut)
  }
  if (flags.out !== undefined) await replaceFile(flags.out, document)
  const printed = flags.out === undefined && flags.port === undefined
  streams[printed ? 'stderr' : 'stdout'].write(summary(collection))
  if (printed) streams.stdout.write(document)
  if (flags.port === undefined) return 0
  const server = await serveDirectory({
    port: flags.port,
    document,
    everyMs: flags.every * 1000,
    rebuild: async () => {
      const next = await build()
      const text = encode(next)
      streams.stderr.write(summary(next))
      if (flags.out !== undefined) await replaceFile(flags.out, text)
      return text
    },
    notice: (line) => streams.stderr.write(`subrosa directory: ${printable(line)}\n`),
  })
  streams.stdout.write(`subrosa directory at ${server.url}\n`)
  await stopSignal()
  await server.close()
  return 0
}

async function runKey(out: string, streams: CommandStreams): Promise<number> {
  const pem = await createProviderKey()
  try {
    await writeFile(out, pem, { mode: 0o600, flag: 'wx' })
  } catch (cause) {
    const there = (cause as { code?: unknown }).code === 'EEXIST'
    throw new UsageError('option.out', `--out: cannot write ${out}${there ? ': it is there already' : ''}`, { cause })
  }
  streams.stdout.write(`${(await readProviderKey(pem)).provider}\n`)
  return 0
}

async function runDescriptor(file: string, flags: DescriptorFlags, streams: CommandStreams): Promise<number> {
  const source = await loadSource(file)
  const iat = Math.floor(Date.now() / 1000)
  const window = { seq: flags.sequence ?? iat, iat, exp: iat + flags.days * 86_400 }
  const jws = await signDescriptor(source, window, await loadProviderKey(flags.key))
  if (flags.out === undefined) streams.stdout.write(`${jws}\n`)
  else {
    await replaceFile(flags.out, `${jws}\n`)
    const until = new Date(window.exp * 1000).toISOString().slice(0, 10)
    streams.stdout.write(
      `${plural(source.endpoints.length, 'endpoint')}, number ${window.seq}, in force until ${until}\n`,
    )
  }
  return 0
}

/** @throws UsageError naming what cannot be used. */
async function loadSource(file: string): Promise<DescriptorSource> {
  const unusable = (reason: string, cause: unknown) =>
    new UsageError('option.source', `cannot use ${file}: ${reason}`, { cause })
  const { value } = await parseYaml(await loadFile(file, 'descriptor source', 1024 * 1024), unusable)
  try {
    return parseDescriptorSource(value)
  } catch (error) {
    throw unusable((error as Error).message, error)
  }
}

function encode({ kept }: Collection): string {
  return `${JSON.stringify(directoryOf(kept), null, 2)}\n`
}

function statusOf(leftOut: readonly LeftOut[]): 1 | 3 | 4 {
  if (leftOut.some(({ malformed }) => malformed)) return 3
  return leftOut.some(({ check }) => check !== undefined) ? 1 : 4
}

function summary({ kept, leftOut }: Collection): string {
  const endpoints = kept.reduce((sum, { payload }) => sum + payload.endpoints.length, 0)
  const lines = leftOut.map(({ source, provider, check, reason }) => {
    const whose = provider === undefined ? '' : ` of ${provider}`
    return printable(`  left out  ${source}${whose}: ${reason}${check === undefined ? '' : ` (${check})`}`)
  })
  return [
    `${plural(kept.length, 'descriptor')} kept, ${plural(endpoints, 'endpoint')}; ${leftOut.length} left out`,
    ...lines,
    'Being listed grants no trust: clients verify every worker themselves.',
    '',
  ].join('\n')
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

/** Whole or not at all: whoever reads the file meanwhile gets the old one. */
async function replaceFile(file: string, text: string): Promise<void> {
  const beside = `${file}.${randomBytes(6).toString('hex')}`
  try {
    await writeFile(beside, text, { flag: 'wx' })
    await rename(beside, file)
  } catch (cause) {
    await rm(beside, { force: true })
    throw new UsageError('option.out', `--out: cannot write ${file}`, { cause })
  }
}

/** @throws InvalidArgumentError, which commander turns into misuse. */
function number(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d{1,16}$/.test(text) && value >= least && value <= most) return value
    throw new InvalidArgumentError(`expected a number from ${least} to ${most}`)
  }
}
