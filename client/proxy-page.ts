/** The proxy's status page: text for a person, no script, no style, nothing loaded from anywhere. */
import type { ServerResponse } from 'node:http'
import { printable } from '../verifier/text.js'
import type { WorkerFailure } from './worker-pool.js'

export interface ProxyStatus {
  readonly ready: boolean
  /** Who can read what is sent and until when, or why nothing is. */
  readonly text: string
  readonly worker: string | undefined
  readonly failures: readonly WorkerFailure[]
  /** Answers whose receipt held. */
  readonly receipts: number
}

export function proxyPage(response: ServerResponse, status: ProxyStatus): void {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
  response.end(pageText(status))
}

function pageText({ ready, text, worker, failures, receipts }: ProxyStatus): string {
  const refused = failures.map(({ url, error }) => `<li>${escaped(url)}: ${escaped(error.message)}</li>`)
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8"><title>subrosa proxy</title>',
    '<meta name="viewport" content="width=device-width"></head><body><main>',
    `<h1>${ready ? 'Ready' : 'Not ready'}</h1>`,
    `<p>${escaped(text)}</p>`,
    ...(worker === undefined ? [] : [`<p>Worker: ${escaped(worker)}</p>`]),
    `<p>Answers with a receipt that holds, since start: ${receipts}</p>`,
    ...(refused.length === 0 ? [] : ['<h2>Workers not used</h2>', `<ul>${refused.join('')}</ul>`]),
    '</main></body></html>',
    '',
  ].join('\n')
}

function escaped(text: string): string {
  return printable(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
}
