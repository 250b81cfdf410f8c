/**
 * `subrosa explorer`: serves the page that verifies, shows and talks. Everything happens in the page, which reaches workers
 * itself; this serves three files, by the rules of a local door. Node only.
 *
 * It is served from this machine because a page from the provider could say anything.
 */
import { readFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { SubrosaError, UsageError } from '../../verifier/errors.js'
import type { CommandStreams } from '../cli-run.js'
import { type LocalDoor, openLocalDoor, refuse } from '../local-door.js'
import { stopSignal } from '../stop-signal.js'

export interface ExplorerFlags {
  readonly port: string
}

const PAGES: ReadonlyMap<string, readonly [file: string, type: string]> = new Map([
  ['/', ['index.html', 'text/html; charset=utf-8']],
  ['/app.js', ['app.js', 'text/javascript; charset=utf-8']],
  ['/style.css', ['style.css', 'text/css; charset=utf-8']],
])

/**
 * Scripts and styles from here alone; workers may be anywhere, and are all this page ever asks. `trusted-types 'none'`: no
 * text of a worker's can become markup.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  'img-src data:',
  'connect-src http: https:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** @throws UsageError when the port is taken; SubrosaError `explorer.not-built` without the page's files. */
export async function startExplorer(port: number): Promise<LocalDoor> {
  const files = new Map<string, Buffer>()
  for (const [path, [name]] of PAGES) files.set(path, await readPageFile(name))
  return openLocalDoor({
    port,
    open: new Set(['/healthz']),
    pages: new Set(PAGES.keys()),
    handle: async (request, response, path) => answer(request, response, path, files),
  })
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  path: string,
  files: ReadonlyMap<string, Buffer>,
): void {
  if (path === '/healthz') {
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('alive\n')
    return
  }
  const [, type] = PAGES.get(path) ?? []
  if (type === undefined || request.method === 'POST') {
    refuse(response, { status: 404, code: 'unknown_url', message: 'this program serves one page, at /' })
    return
  }
  response.setHeader('content-security-policy', CONTENT_SECURITY_POLICY)
  response.writeHead(200, { 'content-type': type })
  response.end(request.method === 'HEAD' ? undefined : files.get(path))
}

/** Beside this file once built; the page's script is made by the build. */
async function readPageFile(name: string): Promise<Buffer> {
  try {
    return await readFile(new URL(`./page/${name}`, import.meta.url))
  } catch (cause) {
    throw new SubrosaError('explorer.not-built', `the page is not built: ${name} is missing; run npm run build`, {
      cause,
    })
  }
}

export async function runExplorer({ port }: ExplorerFlags, { stdout }: CommandStreams): Promise<number> {
  const number = Number(port)
  if (!/^\d{1,5}$/.test(port) || number > 65_535) {
    throw new UsageError('option.port', `--port: expected a number from 0 to 65535, got ${port.slice(0, 20)}`)
  }
  const door = await startExplorer(number)
  try {
    stdout.write(
      [
        `subrosa explorer at ${door.origin}/`,
        `  open       http://subrosa:${door.token}@127.0.0.1:${door.port}/`,
        '  the name is anything, the password is the one above; the page runs in your browser and asks nobody but workers',
        '',
      ].join('\n'),
    )
    await stopSignal()
  } finally {
    await door.close()
  }
  return 0
}
