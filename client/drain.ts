/**
 * `subrosa drain`: tells one worker of the image to leave (PROTOCOL.md §14). The order is a line in a file on the host, which the
 * relay reads whenever that worker asks. It goes through a file because the relay's socket is for guests: whoever writes the
 * file commands, and no guest can. Node only.
 */
import { appendFile, readFile } from 'node:fs/promises'
import { UsageError } from '../verifier/errors.js'
import { fetchBundle, parseWorkerUrl } from '../verifier/fetch-evidence.js'
import { parseBundle } from '../verifier/protocol/bundle.js'
import { type Bytes, toHex } from '../verifier/protocol/bytes.js'
import { CLIENT_NONCE_BYTES } from '../verifier/protocol/constants.js'
import { parseClaims } from '../verifier/protocol/statement.js'
import type { CommandStreams } from './cli-run.js'

export interface DrainFlags {
  readonly file: string
}

/**
 * Orders the worker that answers at the URL to leave. Its evidence is not verified: it is asked for its name, and trusted with nothing.
 * @throws UsageError on a file that cannot be written; UnavailableError, FormatError when no worker answers
 */
export async function runDrain(url: string, { file }: DrainFlags, { stdout }: CommandStreams): Promise<number> {
  const nonce = crypto.getRandomValues(new Uint8Array(CLIENT_NONCE_BYTES))
  const { claims } = parseBundle(await fetchBundle(parseWorkerUrl(url), nonce, { fetch }))
  const bootId = toHex(parseClaims(claims).statement.bootId)
  await appendFile(file, `${bootId}\n`).catch((cause: unknown) => {
    throw new UsageError('file.write', `--file: cannot write ${file}`, { cause })
  })
  stdout.write(
    `told to leave: boot ${bootId}; it takes no new requests once it has asked, and goes after its last answer\n`,
  )
  return 0
}

/** Whether that boot has a line of its own in the file; a file that is not there names nobody. */
export async function isToLeave(file: string | undefined, bootId: Bytes): Promise<boolean> {
  if (file === undefined) return false
  const text = await readFile(file, 'utf8').catch(() => '')
  return text.split(/\r?\n/).includes(toHex(bootId))
}
