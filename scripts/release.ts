/**
 * `npm run release -- COMMAND`: signs release manifests and the index, and keeps the log. Run where the private keys are,
 * which is nowhere near the worker.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { toBytes } from '../verifier/protocol/bytes.js'
import {
  parseReleaseManifest,
  type ReleaseIndex,
  type ReleaseManifest,
  releaseText,
} from '../verifier/release/manifest.js'
import { createSigningKey, encodePrivateKey, parsePrivateKey, signNote } from './release/keys.js'
import { appendEntry, createLog, proveEntry } from './release/log.js'

const keyIn = async (file: string) => parsePrivateKey(await readFile(file, 'utf8'))
const bytesIn = async (file: string) => toBytes(new Uint8Array(await readFile(file)))

const program = new Command('release').description('sign releases and keep their log, offline')
program
  .command('new-key')
  .argument('<name>', 'name of the key or of the log, such as example.org/releases')
  .requiredOption('--out <file>', 'where the private key goes; must not exist')
  .action(async (name: string, { out }: { out: string }) => {
    const key = createSigningKey(name)
    await writeFile(out, encodePrivateKey(key), { mode: 0o600, flag: 'wx' })
    process.stdout.write(`${key.text}\n`)
  })
program
  .command('sign')
  .description('sign a manifest or an index; the note goes to standard output')
  .argument('<json>', 'the document')
  .requiredOption('--key <file...>', 'private release keys; of an index, old and new while both are trusted')
  .action(async (file: string, { key: files }: { key: readonly string[] }) => {
    const document = JSON.parse(await readFile(file, 'utf8')) as ReleaseManifest | ReleaseIndex
    process.stdout.write(signNote(releaseText(document), ...(await Promise.all(files.map(keyIn)))))
  })
program
  .command('new-log')
  .argument('<folder>')
  .requiredOption('--key <file>', 'private log key')
  .action(async (folder: string, { key }: { key: string }) => createLog(folder, await keyIn(key)))
program
  .command('append')
  .description('put a signed manifest into the log, and its proof beside it')
  .argument('<note>', 'the signed manifest')
  .requiredOption('--log <folder>')
  .requiredOption('--key <file>', 'private log key')
  .action(async (note: string, { log, key }: { log: string; key: string }) => {
    const entry = await bytesIn(note)
    const { document } = parseReleaseManifest(entry)
    const signer = await keyIn(key)
    const index = await appendEntry(log, entry, signer)
    await writeFile(`${note}.tlog-proof`, await proveEntry(log, entry, signer.public))
    process.stderr.write(`release ${document.version} is entry ${index} of ${join(log, 'checkpoint')}\n`)
  })

try {
  await program.parseAsync()
} catch (error) {
  process.stderr.write(`release: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
}
