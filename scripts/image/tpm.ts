/**
 * A software TPM (swtpm) for one boot, and what it was told: every TPM2_PCR_Extend that it answered with success, from its log
 * (TPM 2.0 Library, part 3, 22.2; part 2, TPML_DIGEST_VALUES). Integers on the wire are big-endian.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { spawnBounded } from './bounded.js'
import { ImageError } from './command.js'
import { toolCommand } from './qemu.js'

export interface PcrEvent {
  readonly pcr: number
  /** SHA-384, 48 bytes. */
  readonly digest: Buffer
}

export interface SoftwareTpm {
  /** Control socket, for QEMU. */
  readonly socket: string
  /** In order. */
  events(): Promise<readonly PcrEvent[]>
  stop(): Promise<void>
}

const START_DEADLINE_MS = 30_000
/** Longer than any boot. */
const DEADLINE_MS = 2 * 3600_000
const POLL_MS = 50
const PCR_EXTEND = 0x182
const SHA384 = 0x000c
/** By algorithm (TPM_ALG_ID). */
const DIGEST_BYTES: Readonly<Record<number, number>> = { 4: 20, 11: 32, [SHA384]: 48, 13: 64 }

/** `folder` is for this TPM alone. Its path is a socket's, so it must be short. */
export async function startTpm(qemu: string, folder: string): Promise<SoftwareTpm> {
  await mkdir(join(folder, 'state'), { recursive: true })
  const [socket, log] = [join(folder, 'control'), join(folder, 'log')]
  const [program, ...words] = toolCommand(qemu, 'swtpm', [
    ...['socket', '--tpm2', '--tpmstate', `dir=${join(folder, 'state')}`, '--ctrl', `type=unixio,path=${socket}`],
    ...['--flags', 'not-need-init,startup-clear', '--log', `level=20,file=${log}`],
  ])
  const { child, kill } = spawnBounded(program, words, { deadlineMs: DEADLINE_MS, stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => {
    child.on('error', () => resolve())
    child.on('close', () => resolve())
  })
  const until = performance.now() + START_DEADLINE_MS
  while (!existsSync(socket)) {
    if (child.exitCode !== null || performance.now() > until) {
      kill()
      throw new ImageError(`swtpm did not start: ${await readFile(log, 'utf8').catch(() => 'no log')}`)
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return {
    socket,
    events: async () => extendedIn(await readFile(log, 'latin1')),
    async stop() {
      kill()
      await ended
    },
  }
}

/** The SHA-384 digests in swtpm's log of level 20: a line naming what follows, then lines of hexadecimal bytes. */
export function extendedIn(log: string): readonly PcrEvent[] {
  const records = [
    ...log.matchAll(/^ ?(SWTPM_IO_Read|SWTPM_IO_Write): length (\d+)\n((?: ?[0-9A-F]{2}(?: [0-9A-F]{2})* *\n)*)/gm),
  ]
  const bytesOf = (record: RegExpMatchArray | undefined): Buffer =>
    Buffer.from((record?.[3] ?? '').replace(/\s/g, ''), 'hex')
  return records.flatMap((record, i) => {
    if (record[1] !== 'SWTPM_IO_Read') return []
    const command = bytesOf(record)
    if (command.length < 10 || command.readUInt32BE(6) !== PCR_EXTEND) return []
    if (command.length !== Number(record[2])) throw new ImageError('swtpm: its log is cut short')
    const answer = bytesOf(records[i + 1])
    if (answer.length < 10 || answer.readUInt32BE(6) !== 0) return []
    return extendedBy(command)
  })
}

/** Tag 2, size 4, command 4, PCR 4, size of the authorisations 4, those, count 4, then algorithm 2 and digest each. */
function extendedBy(command: Buffer): readonly PcrEvent[] {
  const pcr = command.readUInt32BE(10)
  let at = 18 + command.readUInt32BE(14)
  const count = command.readUInt32BE(at)
  at += 4
  const events: PcrEvent[] = []
  for (let i = 0; i < count; i++) {
    const algorithm = command.readUInt16BE(at)
    const length = DIGEST_BYTES[algorithm]
    if (length === undefined) throw new ImageError(`swtpm: a digest of algorithm 0x${algorithm.toString(16)}`)
    if (algorithm === SHA384) events.push({ pcr, digest: command.subarray(at + 2, at + 2 + length) })
    at += 2 + length
  }
  return events
}
