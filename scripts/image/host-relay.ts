/**
 * What a host has running beside a guest so that the guest gets endorsements: the relay, a command that leads to it from the
 * guest's subnet, and, where the program for it is here, a carrier of the guest's vsock.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { type RunningRelay, startRelay } from '../../client/endorsement-relay.js'
import { spawnBounded } from './bounded.js'
import type { Guest } from './qemu.js'

/** Of the rust-vmm project; Debian has none. Where it is not on the path, the vsock way is skipped. */
export const VSOCK_CARRIER = 'vhost-device-vsock'
const RELAY_PORT = 8646
/** Any number a host may give a guest. */
const GUEST_CID = 3
const CARRIER_DEADLINE_MS = 10_000
/** Longer than any boot. */
const CARRIER_LIFE_MS = 2 * 3600_000

export interface HostRelay {
  /** How the guest is to be started. */
  readonly changes: Pick<Guest, 'relayCommand' | 'vsock'>
  /** SHA-256 of the one thing the relay hands out, in hexadecimal. */
  readonly sha256: string
  /** File of the boots that are to leave. */
  readonly orders: string
  close(): Promise<void>
}

/** @param file something the relay recognises, which it hands out to whoever asks */
export async function startHostRelay(scratch: string, file: string): Promise<HostRelay> {
  const tcp = join(scratch, 'relay.sock')
  const uds = join(scratch, 'vsock')
  const orders = join(scratch, 'drain')
  const relays: RunningRelay[] = []
  for (const path of [tcp, `${uds}_${RELAY_PORT}`]) {
    relays.push(await startRelay({ listen: `unix:${path}`, files: [file], offline: true, drain: orders }, { fetch }))
  }
  const pipe = join(scratch, 'to-relay.mjs')
  await writeFile(
    pipe,
    `import { connect } from 'node:net'\nconst relay = connect(${JSON.stringify(tcp)})\nprocess.stdin.pipe(relay).pipe(process.stdout)\n`,
  )
  const carrier = await startCarrier(join(scratch, 'vsock-control'), uds)
  return {
    changes: {
      relayCommand: `${process.execPath} ${pipe}`,
      ...(carrier === undefined ? {} : { vsock: carrier.control }),
    },
    sha256: createHash('sha256')
      .update(await readFile(file))
      .digest('hex'),
    orders,
    async close() {
      carrier?.kill()
      for (const relay of relays) await relay.close()
    },
  }
}

async function startCarrier(control: string, uds: string): Promise<{ control: string; kill: () => void } | undefined> {
  const program = (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((folder) => join(folder, VSOCK_CARRIER))
    .find((path) => existsSync(path))
  if (program === undefined) return undefined
  const { kill } = spawnBounded(program, ['--guest-cid', String(GUEST_CID), '--socket', control, '--uds-path', uds], {
    deadlineMs: CARRIER_LIFE_MS,
    stdio: 'ignore',
  })
  const until = performance.now() + CARRIER_DEADLINE_MS
  while (!existsSync(control)) {
    if (performance.now() > until) {
      kill()
      throw new Error(`expected ${VSOCK_CARRIER} to open ${control}, got nothing in time`)
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { control, kill }
}
