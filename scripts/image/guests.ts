/** Guests of one built image, with what differs between the checks of a boot, and the questions asked of them over HTTP. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from './lane.js'
import { bootFilesOf } from './measurements.js'
import { type Guest, type RunningGuest, startGuest } from './qemu.js'

export interface GuestMaker {
  /** Starts a guest of the image; `changes` replaces what it is started with. */
  start(name: string, changes?: Partial<Guest>): Promise<RunningGuest>
  /** The same from the unified kernel image. */
  startUnified(name: string, changes?: Partial<Guest>): Promise<RunningGuest>
  /** Of the image; nothing is written there. */
  readonly folder: string
  /** For what is made of it on the way. */
  readonly scratch: string
}

/** For all that is asked of one guest: emulated, and beside other work, an answer alone may take minutes. */
const DEADLINE_MS = 1200_000
const POLL_MS = 250
const REQUEST_TIMEOUT_MS = 60_000

export async function createGuestMaker(qemu: string, folder: string, scratch: string): Promise<GuestMaker> {
  const { commandLine } = await bootFilesOf(folder)
  await mkdir(scratch, { recursive: true })
  const base = (name: string) => ({
    root: join(folder, 'root.img'),
    model: join(folder, 'model.img'),
    serial: join(scratch, `${name}.serial`),
    deadlineMs: DEADLINE_MS,
  })
  return {
    folder,
    scratch,
    start: (name, changes = {}) =>
      startGuest(qemu, {
        ...base(name),
        kernel: join(folder, 'vmlinuz'),
        initrd: join(folder, 'initrd.cpio'),
        commandLine,
        ...changes,
      }),
    startUnified: (name, changes = {}) =>
      startGuest(qemu, { ...base(name), kernel: join(folder, 'uki.efi'), ...changes }),
  }
}

/** Milliseconds until the worker answered. @throws Error when the guest ended first, with the end of its console. */
export async function untilAnswering(guest: RunningGuest): Promise<number> {
  const started = performance.now()
  while (!guest.ended()) {
    const status = await fetch(`${guest.url}/healthz`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
      .then((response) => response.status)
      .catch(() => 0)
    if (status === 200) return performance.now() - started
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`expected the worker to answer, got the guest's end: ${(await guest.serialText()).slice(-600)}`)
}

/** What is on the console of a guest that ended by itself, before any answer. @throws Error when it answers, or has to be killed. */
export async function untilEndOf(guest: RunningGuest): Promise<string> {
  expect(!(await answers(guest)), 'no worker', 'a worker that answers')
  const { late } = await guest.end
  expect(!late, 'a guest that ends by itself', 'one that had to be killed')
  return guest.serialText()
}

/** @throws Error unless the guest runs until its deadline ends it, and never answers: one that ended before has shown nothing. */
export async function untilDeadlineOf(guest: RunningGuest): Promise<void> {
  expect(!(await answers(guest)), 'no worker', 'a worker that answers')
  const { late } = await guest.end
  if (!late)
    throw new Error(
      `expected a guest that runs to its deadline, got its end: ${(await guest.serialText()).slice(-600)}`,
    )
}

/** Whether it ever does, before it ends or its deadline ends it. */
async function answers(guest: RunningGuest): Promise<boolean> {
  return untilAnswering(guest).then(
    () => true,
    () => false,
  )
}

export interface Answer {
  readonly status: number
  readonly text: string
}

export async function ask(guest: RunningGuest, path: string, init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`${guest.url}${path}`, { ...init, signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })
  return { status: response.status, text: (await response.text()).trim() }
}

/** Runs `work` with a guest and ends the guest, whatever came of it. */
export async function withGuest<T>(
  starting: Promise<RunningGuest>,
  work: (guest: RunningGuest) => Promise<T>,
): Promise<T> {
  const guest = await starting
  try {
    return await work(guest)
  } finally {
    await guest.stop()
  }
}
