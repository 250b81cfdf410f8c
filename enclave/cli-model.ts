/** `subrosa model seal`: what a model's owner does before giving a package to a provider. */
import { cp, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateHybridIdentity, identityToRecipient } from 'age-encryption'
import type { Command } from 'commander'
import { toHex } from '../verifier/protocol/bytes.js'
import { SubrosaError } from '../verifier/protocol/errors.js'
import { WorkerError } from './errors.js'
import { computeWeightsRoot, isMeasuredRole, loadModelPackage } from './inference/package.js'
import { SEALED_SUFFIX, sealFile } from './inference/sealed-package.js'

interface SealFlags {
  readonly out: string
  readonly keyOut: string
}

/** Adds the commands on packages to `subrosa model`. */
export function registerModel(model: Command): void {
  model
    .command('seal')
    .description('encrypt graph and weights of a package, for one key')
    .argument('<dir>', 'model package')
    .requiredOption('--out <dir>', 'folder to write the sealed package to; must not exist')
    .requiredOption('--key-out <file>', 'file to write the weights key to; must not exist')
    .action(async (directory: string, flags: SealFlags) => {
      try {
        process.stdout.write(await sealPackage(directory, flags.out, flags.keyOut))
      } catch (error) {
        if (!(error instanceof SubrosaError)) throw error
        process.stderr.write(`subrosa model seal: ${error.message}\n`)
        process.exitCode = 1
      }
    })
}

/**
 * Writes the sealed twin of a package, and the key to it, readable by its owner only. Leaves nothing behind when it fails.
 * @returns what to tell the person who asked.
 * @throws EngineError as `loadModelPackage`; WorkerError `worker.option` when something is in the way.
 */
export async function sealPackage(directory: string, out: string, keyOut: string): Promise<string> {
  const { manifest, files } = await loadModelPackage(directory)
  const identity = await generateHybridIdentity()
  const recipient = await identityToRecipient(identity)
  await fresh('--out', out, () => mkdir(out))
  try {
    await cp(join(directory, 'manifest.json'), join(out, 'manifest.json'))
    for (const file of manifest.files) {
      const bytes = files.get(file.path) ?? new Uint8Array()
      const target = join(out, file.path)
      await mkdir(join(target, '..'), { recursive: true })
      if (isMeasuredRole(file.role)) await writeFile(target + SEALED_SUFFIX, await sealFile(bytes, recipient))
      else await writeFile(target, bytes)
    }
    const text = `# opens the weights of ${manifest.id}; whoever has it can read them\n${identity}\n`
    await fresh('--key-out', keyOut, () => writeFile(keyOut, text, { mode: 0o600, flag: 'wx' }))
  } catch (error) {
    await rm(out, { recursive: true, force: true })
    throw error
  }
  return [
    `sealed ${manifest.id} into ${out}`,
    `  weights digest  ${toHex(computeWeightsRoot(manifest))} (as before: it names the plaintext)`,
    `  weights key     ${keyOut}: keep it; a worker gets it by subrosa model release`,
    '',
  ].join('\n')
}

async function fresh(option: string, path: string, make: () => Promise<unknown>): Promise<void> {
  try {
    await make()
  } catch (cause) {
    const exists = (cause as { code?: unknown }).code === 'EEXIST'
    throw new WorkerError(
      'worker.option',
      exists ? `${option}: ${path} exists already; choose another` : `${option}: cannot write ${path}`,
      { cause },
    )
  }
}
