/** The example page, as it stands, in a real browser. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'
import { launchBrowser, withoutBrowser } from './browser.js'

const root = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

describe.skipIf(withoutBrowser)('examples/page.html', () => {
  let browser: Browser
  let server: Server
  let worker: RunningWorker

  beforeAll(async () => {
    const { outputFiles } = await build({
      entryPoints: [root('dist/client/index.js')],
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
    })
    const page = readFileSync(root('examples/page.html'))
    server = createServer((request, response) => {
      const script = request.url === '/client.js'
      response.setHeader('content-type', script ? 'text/javascript' : 'text/html')
      response.end(script ? outputFiles[0]?.contents : page)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    browser = await launchBrowser()
    worker = await startWorker()
  })

  afterAll(async () => {
    await browser.close()
    server.close()
    await worker.close()
  })

  it('verifies, asks, and checks the receipt; and refuses what it should', async () => {
    const page = await browser.newPage()
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    await page.locator('#url').fill(worker.url)
    await page.locator('#policy').fill(JSON.stringify(await policyFor(worker)))
    const out = page.locator('#out')
    await page.getByRole('button').click()
    await page.waitForFunction(() => document.getElementById('out')?.textContent?.includes('receipt'))
    expect(await out.textContent()).toMatch(/Paris[\s\S]*\nreceipt accepted$/)

    await page.locator('#policy').fill(JSON.stringify({ schema: 'subrosa-policy/1' }))
    await page.getByRole('button').click()
    await page.waitForFunction(() => document.getElementById('out')?.textContent?.includes('not sent'))
    expect(await out.textContent()).toMatch(/^not sent: .*snp\.chain\.root/)
  })
})
