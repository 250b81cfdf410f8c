/**
 * The face of a worker that will not serve: alive, not ready, and clear about why. It holds no key and no model, and refuses
 * everything that could carry a prompt without reading it.
 */
import { Hono } from 'hono'
import { PATH_ATTESTATION, PATH_OHTTP, PATH_OHTTP_KEYS } from '../verifier/protocol/constants.js'
import type { WorkerError } from './errors.js'

/** Answers 503 with the reason to whoever asks for evidence, keys or readiness, and to prompts. */
export function createRefusalApp({ code, message }: Pick<WorkerError, 'code' | 'message'>): Hono {
  const app = new Hono()
  const refuse = (): Response =>
    new Response(
      JSON.stringify({ type: 'about:blank', title: 'Service Unavailable', status: 503, code, detail: message }),
      {
        status: 503,
        // The connection is not kept for the rest of a request nobody reads.
        headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store', connection: 'close' },
      },
    )
  app.get('/healthz', () => new Response('ok\n'))
  for (const path of ['/readyz', PATH_ATTESTATION, PATH_OHTTP_KEYS, PATH_OHTTP, '*']) app.all(path, refuse)
  return app
}
