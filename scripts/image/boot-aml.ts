/**
 * A host that hands the guest a table whose code reads and writes memory ("BadAML"): under our own kernel it gets nothing, and
 * under Debian's it gets everything, which shows that the table does what it says.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { run } from './command.js'
import { ask, type GuestMaker, untilAnswering } from './guests.js'
import { expect, type Lane } from './lane.js'
import { repository } from './places.js'
import { type RunningGuest, toolCommand } from './qemu.js'
import { SECRET_ADDRESS, SECRET_BYTES, type Watched, withWatchedMemory } from './watched-memory.js'

/** As `aml/memory.asl` has it, and the secret's. */
const WRITTEN_ADDRESS = SECRET_ADDRESS + 0x20
const WRITTEN = Buffer.from('5aa55aa5535542524f5341a55aa55aa5', 'hex')
/** The code's last device has begun, and may have ended. */
const LAST_LETTER = 'T'
const LETTERS_DEADLINE_MS = 120_000
const POLL_MS = 20

interface Seen {
  /** What the code had sent to the host when its last attempt was made. */
  readonly sent: Buffer
  /** Memory of the guest at that time, 16 bytes each. */
  readonly secret: Buffer
  readonly written: Buffer
}

/** `own` are kernels of ours by the flavour that has them, `debian` is of the developer flavour. */
export async function bootAml(
  lane: Lane,
  own: Readonly<Record<string, GuestMaker>>,
  debian: GuestMaker,
  qemu: string,
  scratch: string,
): Promise<void> {
  const table = join(scratch, 'memory.aml')
  const source = join(repository, 'scripts', 'image', 'aml', 'memory.asl')
  const [program, ...words] = toolCommand(qemu, 'iasl', ['-p', join(scratch, 'memory'), source])
  await run(program, words)

  // None of the letters, so that the end of what was sent can be seen.
  const secret = Buffer.from(randomBytes(SECRET_BYTES).map((byte) => byte | 0x80))
  const shown = await lane.check('control: on Debian’s kernel a host’s table reads and writes the guest’s memory', () =>
    withTable(debian, 'aml-debian', table, scratch, secret, async (_, { sent, written }) => {
      expect(sent.includes(secret), 'the secret at the host', JSON.stringify(sent.toString('latin1')))
      expect(written.equals(WRITTEN), `${WRITTEN.toString('hex')} in memory`, written.toString('hex'))
      return 'the developer flavour, which enters no release'
    }),
  )
  for (const [flavour, maker] of Object.entries(own)) {
    const name = `the ${flavour} kernel denies a host’s table every access to memory, and the worker runs on`
    if (!shown) lane.skip(name, 'the control did not show what would be denied')
    else await lane.check(name, () => deniesTable(maker, `aml-${flavour}`, table, scratch, secret))
  }
}

async function deniesTable(
  maker: GuestMaker,
  name: string,
  table: string,
  scratch: string,
  secret: Buffer,
): Promise<string> {
  return withTable(maker, name, table, scratch, secret, async (guest, seen) => {
    // Each attempt has begun and none has come to its end.
    expect(
      seen.sent.toString('latin1') === 'RWT',
      'RWT alone at the host',
      JSON.stringify(seen.sent.toString('latin1')),
    )
    expect(seen.secret.equals(secret), 'the secret where it was', seen.secret.toString('hex'))
    expect(!seen.written.equals(WRITTEN), 'memory that was not written', seen.written.toString('hex'))
    await untilAnswering(guest)
    const { status } = await ask(guest, '/healthz')
    expect(status === 200, '/healthz 200', String(status))
    return 'read, write and a table region'
  })
}

async function withTable(
  maker: GuestMaker,
  name: string,
  table: string,
  scratch: string,
  secret: Buffer,
  work: (guest: RunningGuest, seen: Seen) => Promise<string>,
): Promise<string> {
  return withWatchedMemory(maker, name, scratch, secret, { acpiTables: [table] }, async (guest, { sent, at }) => {
    const letters = await lettersOf(guest, sent)
    return work(guest, { sent: letters, secret: await at(SECRET_ADDRESS), written: await at(WRITTEN_ADDRESS) })
  })
}

/** What came out of the port by the time the last attempt had been made. */
async function lettersOf(guest: RunningGuest, read: Watched['sent']): Promise<Buffer> {
  const until = performance.now() + LETTERS_DEADLINE_MS
  while (performance.now() < until && !guest.ended()) {
    if ((await read()).includes(LAST_LETTER)) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
      return read()
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`expected the table’s code to run, got ${(await guest.serialText()).slice(-300)}`)
}
