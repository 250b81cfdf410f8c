/** The explorer page in a real browser: verify a live worker and files, see the right link break, and talk through the seal. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import axe from 'axe-core'
import type { Browser, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { startExplorer } from '../../client/explorer/server.js'
import type { LocalDoor } from '../../client/local-door.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex } from '../../verifier/protocol/bytes.js'
import { PATH_ATTESTATION } from '../../verifier/protocol/constants.js'
import { createWorld, makeBundle, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { policyFor, type RunningWorker, startWorker, tapWire } from '../support/worker.js'
import { launchBrowser, withoutBrowser } from './browser.js'

const CANARY = 'kookaburra-7193'

describe.skipIf(withoutBrowser)('the explorer', () => {
  let browser: Browser
  let door: LocalDoor
  let page: Page
  let folder: string
  let worker: RunningWorker
  let impostor: RunningWorker
  let world: World
  let bundle: Bytes
  const file = (name: string): string => join(folder, name)
  const problems: string[] = []
  const asked: string[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'subrosa-explorer-'))
    // As built, where the page lies beside its server.
    const built = (await import(new URL('../../dist/client/explorer/server.js', import.meta.url).href)) as {
      startExplorer: typeof startExplorer
    }
    door = await built.startExplorer(0)
    browser = await launchBrowser()
    worker = await startWorker()
    impostor = await startWorker()
    world = await createWorld()
    bundle = await makeBundle(world)
    await writeFile(file('worker.json'), JSON.stringify(await policyFor(worker)))
    await writeFile(file('policy.json'), JSON.stringify(world.policy))
    await writeFile(file('good.bundle'), bundle)
    const bent = bundle.slice()
    const at = Buffer.from(bundle).indexOf(parseBundle(bundle).cpu.evidence) + 0x90
    bent[at] = (bent[at] ?? 0) ^ 1
    await writeFile(file('tampered.bundle'), bent)
    await writeFile(file('garbage'), 'neither one thing nor another')
    const digest = (text: string) => toHex(new TextEncoder().encode(text)).padEnd(96, '0').slice(0, 96)
    const other = { ...world.policy, measurements: [{ digest: digest('other') }] }
    await writeFile(file('other.json'), JSON.stringify(other))
  })

  afterAll(async () => {
    await browser?.close()
    await door?.close()
    await worker?.close()
    await impostor?.close()
    await rm(folder, { recursive: true, force: true })
  })

  beforeEach(async () => {
    problems.length = 0
    asked.length = 0
    const context = await browser.newContext({ httpCredentials: { username: 'subrosa', password: door.token } })
    page = await context.newPage()
    page.on('pageerror', (error) => problems.push(error.message))
    page.on('console', (message) => {
      // cbor-x asks once whether it may compile code, takes no for an answer, and the browser writes that down.
      const probe = /requires 'TrustedScript' assignment/.test(message.text())
      if (message.type() === 'error' && !probe) problems.push(message.text())
    })
    page.on('request', (outgoing) => asked.push(new URL(outgoing.url()).origin))
    await page.goto(`${door.origin}/`)
  })

  afterEach(async () => {
    await page.context().close()
  })

  const verdict = () => page.locator('#verdict')
  async function verify(inputs: { url?: string; evidence?: string; policy?: string; at?: string }): Promise<void> {
    if (inputs.policy !== undefined) await page.locator('#policy').setInputFiles(file(inputs.policy))
    if (inputs.evidence !== undefined) await page.locator('#evidence').setInputFiles(file(inputs.evidence))
    await page.locator('#ask details').evaluate((details: HTMLDetailsElement) => {
      details.open = true
    })
    await page.locator('#at').fill(inputs.at ?? '')
    await page.locator('#url').fill(inputs.url ?? '')
    await page.getByRole('button', { name: 'Verify' }).click()
    await page.waitForFunction(
      () => !['none', ''].includes(document.getElementById('verdict')?.dataset['verdict'] ?? ''),
    )
  }
  const states = () =>
    page
      .locator('#chain > li')
      .evaluateAll((links) =>
        links.map((link) => [(link as HTMLElement).dataset['link'], (link as HTMLElement).dataset['state']]),
      )
  const fits = async () => (await page.evaluate(`${axe.source}; axe.run(document)`)) as { violations: { id: string }[] }

  it('verifies a live worker, talks through the seal, and shows each receipt', async () => {
    const tap = await tapWire(worker.url)
    await verify({ url: tap.url, policy: 'worker.json' })
    expect(await verdict().getAttribute('data-verdict')).toBe('accepted')
    expect(await verdict().textContent()).toMatch(/SIMULATED OR PRIVATE hardware/)
    expect(await page.locator('#padlock').textContent()).toMatch(/^Unlocked: SIMULATED OR PRIVATE .* min left/)
    await page.locator('#prompt').fill(`Repeat after me: ${CANARY} river stone`)
    await page.keyboard.press('Enter')
    const receipt = page.locator('#log .receipt')
    await receipt.first().waitFor()
    expect(await receipt.first().getAttribute('data-holds')).toBe('true')
    expect(await page.locator('#log').textContent()).toMatch(/signed by the attested enclave, for this question/)
    expect(tap.bytes().toString('latin1')).not.toContain(CANARY)
    expect(new Set(asked)).toEqual(new Set([door.origin, tap.url]))
    expect((await fits()).violations.map(({ id }) => id)).toEqual([])
    await page.screenshot({ path: file('live.png'), fullPage: true })
    expect(problems).toEqual([])
    await tap.close()
  })

  it('opens a saved bundle without asking anybody, and says what the command line says', async () => {
    const at = world.now.toISOString()
    await verify({ evidence: 'good.bundle', policy: 'policy.json', at })
    expect(await verdict().getAttribute('data-verdict')).toBe('accepted')
    expect(await page.locator('#padlock').textContent()).toBe(
      'Locked: a file cannot answer; name its worker to talk to it.',
    )
    const json = JSON.parse(await page.locator('#json').inputValue())
    const argv = ['--policy', file('policy.json'), '--at', at, '--offline', '--format', 'json']
    expect(json).toEqual(JSON.parse((await verifyAttestation(file('good.bundle'), ...argv)).stdout))
    expect(new Set(asked)).toEqual(new Set([door.origin]))
    expect((await fits()).violations.map(({ id }) => id)).toEqual([])
    expect(problems).toEqual([])
  })

  it('shows a tampered bundle fail at the right check, and greys what rested on it', async () => {
    await verify({ evidence: 'tampered.bundle', policy: 'policy.json', at: world.now.toISOString() })
    expect(await verdict().getAttribute('data-verdict')).toBe('malformed')
    expect(await page.locator('[data-check="bundle.parse"]').getAttribute('data-status')).toBe('fail')
    const [first, ...rest] = await states()
    expect(first).toEqual(['form', 'broken'])
    expect(rest.every(([, state]) => state === 'unsupported')).toBe(true)
    await page.screenshot({ path: file('tampered.png'), fullPage: true })
  })

  it('shows unknown software break its link and nothing above it', async () => {
    await verify({ evidence: 'good.bundle', policy: 'other.json', at: world.now.toISOString() })
    expect(await verdict().getAttribute('data-verdict')).toBe('rejected')
    expect(Object.fromEntries(await states())).toMatchObject({
      maker: 'holds',
      report: 'holds',
      bound: expect.stringMatching(/holds|waived/),
      software: 'broken',
      model: 'unsupported',
      key: 'unsupported',
    })
    expect(await page.locator('#chain li[data-link="software"] details').getAttribute('open')).not.toBeNull()
    expect((await fits()).violations.map(({ id }) => id)).toEqual([])
  })

  it('takes a file dropped anywhere', async () => {
    const transfer = await page.evaluateHandle(
      (bytes) => {
        const data = new DataTransfer()
        data.items.add(new File([new Uint8Array(bytes)], 'dropped.bundle'))
        return data
      },
      [...bundle],
    )
    await page.dispatchEvent('main', 'drop', { dataTransfer: transfer })
    await page.waitForFunction(() => document.getElementById('verdict')?.dataset['verdict'] === 'rejected')
    expect(await page.locator('#summary').textContent()).toContain('snp.chain.root')
  })

  it('sends nothing to a worker it cannot trust, and says why', async () => {
    const tap = await tapWire(worker.url)
    await verify({ url: tap.url })
    expect(await verdict().getAttribute('data-verdict')).toBe('rejected')
    expect(await page.locator('#padlock').textContent()).toMatch(/^Locked: not sent: .*\(snp\.chain\.root\)$/)
    expect(await page.locator('#prompt').isDisabled()).toBe(true)
    expect(tap.bytes().toString('latin1')).not.toContain('POST ')
    await tap.close()
  })

  const padlock = async () => [
    await page.locator('#padlock').getAttribute('data-locked'),
    await page.locator('#padlock').textContent(),
  ]
  const ask = async (question: string) => {
    await page.locator('#prompt').fill(question)
    await page.keyboard.press('Enter')
  }
  /** Browsers write down an answer cut off; the page is not what failed. */
  const faults = () => problems.filter((text) => !text.startsWith('Failed to load resource'))

  it('locks when another worker answers in the place of the verified one, says why, and recovers', async () => {
    const tap = await tapWire(worker.url)
    await verify({ url: tap.url, policy: 'worker.json' })
    const before = tap.bytes().length
    tap.lead(impostor.url)
    await ask(`Repeat after me: ${CANARY}`)
    await page.locator('#padlock[data-locked="true"]').waitFor()
    expect((await padlock())[1]).toMatch(/^Locked: not sent: .*\(snp\.chain\.root\)$/)
    expect(await page.locator('#log').textContent()).toMatch(/\[not sent: .*\(snp\.chain\.root\)\]/)
    expect(await verdict().getAttribute('data-verdict')).toBe('rejected')
    expect(Object.fromEntries(await states())).toMatchObject({ maker: 'broken', key: 'unsupported' })
    expect(await page.locator('#prompt').isDisabled()).toBe(true)
    expect(tap.bytes().subarray(before).toString('latin1')).not.toContain(CANARY)
    expect((await fits()).violations.map(({ id }) => id)).toEqual([])

    tap.lead(worker.url)
    await verify({ url: tap.url })
    await page.locator('#padlock[data-locked="false"]').waitFor()
    expect(await page.locator('#send').isEnabled()).toBe(true)
    await ask('And now?')
    await page.locator('#log .receipt').first().waitFor()
    expect(await page.locator('#send').isEnabled()).toBe(true)
    expect(faults()).toEqual([])
    await tap.close()
  })

  describe('when the evidence runs out', () => {
    const EVIDENCE_S = 135
    const HOURS_3 = 3 * 3600_000
    beforeEach(async () => {
      const policy = { ...(await policyFor(worker)), freshness: { evidenceSeconds: EVIDENCE_S } }
      await writeFile(file('short.json'), JSON.stringify(policy))
      await page.clock.install({ time: new Date() })
      await page.reload()
      await verify({ url: worker.url, policy: 'short.json' })
      await page.locator('#padlock[data-locked="false"]').waitFor()
    })
    const expectLocked = async () => {
      expect(await padlock()).toEqual(['true', expect.stringMatching(/^Locked: the evidence ran out at .*Z; verify/)])
      expect(await verdict().getAttribute('data-verdict')).toBe('none')
      expect(await verdict().textContent()).toMatch(/^Accepted earlier, not any more: the evidence ran out/)
      expect(await page.locator('#prompt').isDisabled()).toBe(true)
      expect(await page.locator('#send').isDisabled()).toBe(true)
      expect(faults()).toEqual([])
    }

    it('locks by itself', async () => {
      await page.clock.fastForward(HOURS_3)
      await expectLocked()
    })

    it('locks when the page is looked at again, whatever became of its timer', async () => {
      await page.clock.setSystemTime(Date.now() + HOURS_3)
      await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')))
      await expectLocked()
    })

    it('locks when evidence fetched ahead is refused beside an answer, which ends well', async () => {
      await page.route(`**${PATH_ATTESTATION}*`, async (route) => {
        const { pathname, search } = new URL(route.request().url())
        await route.continue({ url: `${impostor.url}${pathname}${search}` })
      })
      // In its last fifth, where a session renews ahead, and on a clock that the worker still takes.
      await page.clock.setSystemTime(Date.now() + (EVIDENCE_S - 26) * 1000)
      await ask('Are you there?')
      await page.locator('#log .receipt').waitFor()
      await page.locator('#padlock[data-locked="true"]').waitFor()
      expect((await padlock())[1]).toBe('Locked: newer evidence of this worker was refused; verify it again to see why')
      expect(await page.locator('#log .receipt').getAttribute('data-holds')).toBe('true')
      expect(await verdict().getAttribute('data-verdict')).toBe('none')
      expect(problems).toEqual([])
    })

    it('sends nothing, and keeps what was typed', async () => {
      await page.locator('#prompt').fill('still there?')
      await page.clock.setSystemTime(Date.now() + HOURS_3)
      await page.keyboard.press('Enter')
      await expectLocked()
      expect(await page.locator('#prompt').inputValue()).toBe('still there?')
      expect(await page.locator('#log').textContent()).toBe('')
    })
  })

  it.each<[string, Parameters<typeof verify>[0], RegExp]>([
    ['nothing to verify', {}, /name a worker by its address, or choose a file/],
    ['an address that is none', { url: 'gpu7' }, /expected a worker URL/],
    ['nobody there', { url: 'http://127.0.0.1:1' }, /cannot reach/],
    ['a policy that is none', { evidence: 'good.bundle', policy: 'garbage' }, /expected a policy|cannot be read/],
    ['a time that is none', { evidence: 'good.bundle', at: 'yesterday' }, /expected RFC 3339/],
    ['a past time for a worker', { url: 'http://127.0.0.1:1', at: '2026-01-01' }, /judged by the real clock/],
  ])('says what is wrong with %s, in one sentence', async (_, inputs, message) => {
    await verify(inputs)
    expect(await verdict().getAttribute('data-verdict')).toBe('error')
    expect(await verdict().textContent()).toMatch(message)
  })

  it('looks at garbage and says that it is none', async () => {
    await verify({ evidence: 'garbage' })
    expect(['malformed', 'rejected']).toContain(await verdict().getAttribute('data-verdict'))
  })
})

describe('its door', () => {
  it('serves one page to whoever has the token, under a policy that runs nothing else', async () => {
    const built = (await import(new URL('../../dist/client/explorer/server.js', import.meta.url).href)) as {
      startExplorer: typeof startExplorer
    }
    const door = await built.startExplorer(0)
    const ask = (path: string, headers: Record<string, string> = {}): Promise<[number, string]> =>
      new Promise((resolve, reject) => {
        request({ host: '127.0.0.1', port: door.port, path, headers }, (incoming) => {
          incoming.resume()
          resolve([incoming.statusCode ?? 0, String(incoming.headers['content-security-policy'])])
        })
          .on('error', reject)
          .end()
      })
    const authorization = `Basic ${Buffer.from(`x:${door.token}`).toString('base64')}`
    try {
      const [status, policy] = await ask('/', { authorization })
      expect(status).toBe(200)
      expect(policy).toContain("script-src 'self'")
      expect(policy).not.toMatch(/unsafe|\*/)
      for (const [path, headers, expected] of [
        ['/', {}, 401],
        ['/app.js', { authorization: 'Basic eDp5' }, 401],
        ['/', { authorization, host: 'evil.example' }, 421],
        ['/', { authorization, origin: 'https://evil.example' }, 403],
        ['/../package.json', { authorization }, 401],
        ['/index.html', { authorization: `Bearer ${door.token}` }, 404],
        ['/healthz', {}, 200],
      ] as const) {
        expect([path, (await ask(path, headers))[0]]).toEqual([path, expected])
      }
    } finally {
      await door.close()
    }
  })
})
