/** Where descriptors are read from on a command line: addresses and files. Node only. */
import { MAX_DIRECTORY_BYTES, parseDirectory } from '../../verifier/directory/document.js'
import { fetchDescriptors } from '../../verifier/directory/fetch.js'
import { loadFile } from '../../verifier/files.js'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'

const TIMEOUT_MS = 15_000

/** The compact JWS of a directory, or of one descriptor. @throws SubrosaError saying why there are none. */
export async function readDescriptors(source: string): Promise<readonly string[]> {
  if (/^https?:/i.test(source)) return fetchDescriptors(source, { fetch: globalThis.fetch, timeoutMs: TIMEOUT_MS })
  const bytes = await loadFile(source, 'directory', MAX_DIRECTORY_BYTES)
  const text = fromUtf8(bytes).trim()
  return text.startsWith('{') ? parseDirectory(bytes).descriptors : [text]
}
