/** A real Chromium, Debian's own, where there is one. */
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'

const PATHS = [
  process.env['SUBROSA_CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]

const executablePath = PATHS.find((path) => path !== undefined && path !== '' && existsSync(path))

/** Why browser tests are skipped, when they are. */
export const withoutBrowser = executablePath === undefined
if (withoutBrowser) {
  process.stderr.write(
    'browser tests skipped: no Chromium; install the package chromium, or name one in SUBROSA_CHROMIUM\n',
  )
}

/** Its sandbox needs what containers do not give; the pages loaded here are our own. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    ...(executablePath === undefined ? {} : { executablePath }),
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  })
}
