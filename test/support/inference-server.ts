/** An OpenAI-compatible server on a unix socket: the demo model in the clear, and the worker's engine on top of it. */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import type { Engine } from '../../enclave/inference/engine.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import type { ServerConfig } from '../../enclave/inference/server/config.js'
import { createServerEngine } from '../../enclave/inference/server/engine.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { createPlainServer } from '../../scripts/bench/channel-worker.js'
import type { ModelClaims } from '../../verifier/protocol/statement.js'

export interface ServedEngine {
  readonly engine: Engine
  readonly model: ModelClaims
  /** The paths it was asked on, with the bodies. */
  readonly asked: readonly { readonly path: string; readonly body: unknown }[]
  close(): Promise<void>
}

export function serverConfig(listen: string, changes: Partial<ServerConfig> = {}): ServerConfig {
  return {
    kind: 'other',
    version: '1.0',
    program: process.execPath,
    arguments: [],
    listen,
    model: 'subrosa-demo',
    embeddings: true,
    uid: 65_534,
    gid: 65_534,
    ...changes,
  }
}

/** `answer` in the place of the demo model. */
export async function servedEngine(
  answer?: (request: Request) => Response | Promise<Response>,
  changes: Partial<ServerConfig> = {},
): Promise<ServedEngine> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-server-'))
  const modelPackage = await loadModelPackage(defaultModelDirectory())
  const model = modelClaims(modelPackage)
  const own = answer === undefined ? await createOrtEngine(modelPackage, { threads: 1 }) : undefined
  const plain = own === undefined ? answer : await createPlainServer({ engine: own, model }, 'off')
  const asked: { path: string; body: unknown }[] = []
  const server = createAdaptorServer({
    overrideGlobalObjects: false,
    async fetch(request) {
      const text = await request.text()
      asked.push({ path: new URL(request.url).pathname, body: text === '' ? undefined : JSON.parse(text) })
      const again = new Request(request.url, {
        method: request.method,
        signal: request.signal,
        ...(text === '' ? {} : { body: text }),
      })
      return (await plain?.(again)) ?? new Response(null, { status: 500 })
    },
  }) as Server
  const listen = join(folder, 'engine.sock')
  server.listen(listen)
  await once(server, 'listening')
  let healthy = true
  const engine = await createServerEngine(modelPackage, {
    config: serverConfig(listen, changes),
    digest: '00'.repeat(32),
    healthy: () => healthy,
    async close() {
      healthy = false
      server.closeAllConnections()
      server.close()
      await own?.close()
      await rm(folder, { recursive: true })
    },
  })
  return { engine, model, asked, close: () => engine.close() }
}
