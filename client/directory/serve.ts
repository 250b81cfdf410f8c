/** A directory served as it is, to anyone: behind TLS it is what clients and web pages read. Node only. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { MEDIA_TYPE_DIRECTORY, PATH_DIRECTORY } from '../../verifier/directory/document.js'
import { UsageError } from '../../verifier/errors.js'

export interface DirectoryServerOptions {
  /** On 127.0.0.1; 0 takes any free port. */
  readonly port: number
  readonly document: string
  /** Makes the next document. When it fails the last one stays. */
  readonly rebuild: () => Promise<string>
  readonly everyMs: number
  readonly notice: (line: string) => void
}

export interface DirectoryServer {
  readonly url: string
  close(): Promise<void>
}

/** @throws UsageError when the port cannot be used. */
export async function serveDirectory(options: DirectoryServerOptions): Promise<DirectoryServer> {
  let { document } = options
  const server = createServer(({ method, url }, response) => {
    if (url !== PATH_DIRECTORY) return response.writeHead(404).end()
    if (method !== 'GET' && method !== 'HEAD') return response.writeHead(405, { allow: 'GET, HEAD' }).end()
    response.writeHead(200, {
      'content-type': MEDIA_TYPE_DIRECTORY,
      'cache-control': 'public, max-age=60',
      'access-control-allow-origin': '*',
      'x-content-type-options': 'nosniff',
    })
    return response.end(method === 'HEAD' ? undefined : document)
  })
  server.listen(options.port, '127.0.0.1')
  await once(server, 'listening').catch((cause: unknown) => {
    throw new UsageError('option.port', `port ${options.port} cannot be used; choose another with --port`, { cause })
  })
  const timer = setInterval(() => {
    options.rebuild().then(
      (next) => {
        document = next
      },
      (error: unknown) => options.notice(error instanceof Error ? error.message : String(error)),
    )
  }, options.everyMs)
  timer.unref()
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${PATH_DIRECTORY}`,
    async close() {
      clearInterval(timer)
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
