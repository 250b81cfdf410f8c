/**
 * Follows a text through a grammar byte by byte, and says which tokens may come next.
 *
 * Written here because nothing at hand does it: the one library of this kind on npm is built for browsers, does not load
 * as an ES module, and skips keywords it does not know. This one reads nothing but its own row's tokens, so that a mask
 * moves no neighbour; its work for one token is bounded (MAX_WORK), and done in slices where that is asked for; and since every terminal can always be completed,
 * leaving alternatives out only ever narrows a mask and never empties it.
 *
 * A state is a set of threads, each a terminal under way and the networks to go on with behind it. Those are shared
 * between threads and made once for each place, so equal threads are found out and kept once.
 */
import { EngineError } from '../errors.js'
import { arcDepth, type Grammar, MAX_DEPTH } from './network.js'
import { DEAD, type Terminal } from './terminal.js'
import type { Vocabulary } from './vocabulary.js'
import { createWritable } from './writable.js'

/** Most alternatives followed at once. */
const MAX_THREADS = 320
/** Steps through the vocabulary for one mask, counted as if nothing had been kept from before. */
const MAX_WORK = 1_000_000
/** What a step of a set of threads costs more than one of a terminal. */
const THREAD_WORK = 16
/** Steps after which others have their turn: well below a millisecond. */
const SLICE_WORK = 10_000
const MAX_KEPT = 256
/** Places remembered in one answer; only a grammar that can be read in ever more ways has so many. */
const MAX_FRAMES = 100_000
/** Places gone through between two bytes. */
const MAX_ENTERED = 8192
const MAX_KEPT_SHARED = 64
const MAX_ROWS = 2048

export interface Matcher {
  /**
   * Works on the next mask for a slice, and says whether it is there.
   * @throws EngineError `schema.unsupported` when the grammar can be followed in too many ways.
   */
  prepare(): boolean
  /** One bit for each token that may come next, by token id; those that end the turn are not among them. Works out what is not prepared. */
  mask(): Uint32Array
  /** @throws EngineError `engine.failed` when the token was not in the mask. */
  accept(token: number): void
  /** Follows bytes that no mask was asked for. False when the grammar does not allow them; then nothing has changed. */
  follow(bytes: Uint8Array): boolean
  /** Whether the text may end here. */
  mayEnd(): boolean
  /** Whether it must. */
  mustEnd(): boolean
}

/** What yields between slices of its work. */
type Sliced<T> = Generator<void, T, void>

/** What may be kept between requests: only of terminals that all of them share. */
export interface MatcherFactory {
  /** @throws EngineError `schema.unsupported` where no text can follow it that the vocabulary has tokens for. */
  create(grammar: Grammar): Matcher
}

/** A place to go on from, inside the networks that wait for this one. */
interface Frame {
  readonly id: number
  readonly network: number
  readonly position: number
  readonly parent: Frame | undefined
  readonly depth: number
  readonly inner: Map<number, Frame>
}

interface Thread {
  readonly terminal: Terminal
  readonly state: number
  readonly next: Frame
}

interface Threads {
  readonly list: readonly Thread[]
  readonly ended: boolean
}

/** The tokens that stay inside a terminal, and where in the tree it may have ended. */
interface Reach {
  readonly bits: Uint32Array
  readonly exits: readonly number[]
  readonly count: number
  readonly work: number
}

/** Threads and where each byte leads from them, as far as that was asked: many tokens end a terminal alike. */
interface Steps {
  readonly threads: Threads
  readonly after: Map<number, Steps>
}

/** The tokens that leave a terminal for what follows it. */
type Beyond = Omit<Reach, 'exits'>

export function createMatcherFactory(vocabulary: Vocabulary): MatcherFactory {
  const shared = createReaches(vocabulary, MAX_KEPT_SHARED)
  const writable = createWritable(vocabulary.unwritable)
  return { create: (grammar) => createMatcher(writable(grammar), vocabulary, shared) }
}

function createMatcher(grammar: Grammar, vocabulary: Vocabulary, shared: Reaches): Matcher {
  const spend = createMeter()
  const own = createReaches(vocabulary, MAX_KEPT)
  const terminals = new Map<Terminal, number>()
  let frames = 0
  const beyondOf = new WeakMap<Reach, Map<number, Beyond>>()

  /** The place of the same network at another position, or of a network inside another; the same one each time. */
  const placeOf = (holder: Map<number, Frame>, network: number, position: number, parent: Frame | undefined): Frame => {
    const key = network * 2 ** 20 + position
    const known = holder.get(key)
    if (known !== undefined) return known
    if (frames >= MAX_FRAMES) throw tooManyWays()
    const depth = parent === undefined ? 0 : parent.depth + 1
    const made: Frame = { id: frames++, network, position, parent, depth, inner: new Map() }
    holder.set(key, made)
    return made
  }
  const roots = new Map<number, Frame>()
  const moved = ({ network, parent }: Frame, position: number): Frame =>
    placeOf(parent?.inner ?? roots, network, position, parent)

  function collector(): { add(thread: Thread): void; enter(from: Frame): void; full(): boolean; threads(): Threads } {
    const seen = new Set<string>()
    const entered = new Set<number>()
    const list: Thread[] = []
    let ended = false
    const add = (thread: Thread): void => {
      const known = terminals.get(thread.terminal)
      const terminal = known ?? terminals.size
      if (known === undefined) terminals.set(thread.terminal, terminal)
      const key = `${terminal} ${thread.state} ${thread.next.id}`
      if (seen.has(key) || list.length >= MAX_THREADS) return
      seen.add(key)
      list.push(thread)
    }
    return {
      add,
      enter(from) {
        const open = [from]
        for (let at = open.pop(); at !== undefined; at = open.pop()) {
          if (list.length >= MAX_THREADS) return
          if (entered.has(at.id)) continue
          if (entered.size >= MAX_ENTERED) throw tooManyWays()
          entered.add(at.id)
          const { network, position, parent, depth } = at
          const { arcs = [], final = false } = grammar.networks[network]?.[position] ?? {}
          const further: Frame[] = []
          for (const arc of arcs) {
            if (depth + arcDepth(grammar, network, arc) > MAX_DEPTH) continue
            const next = moved(at, arc.to)
            if (arc.via === undefined) further.push(next)
            else if (typeof arc.via === 'number') further.push(placeOf(next.inner, arc.via, 0, next))
            else add({ terminal: arc.via, state: arc.via.start, next })
          }
          if (final && parent !== undefined) further.push(parent)
          if (final && parent === undefined) ended = true
          // In order: what is left out, where there is too much, is what comes last.
          open.push(...further.reverse())
        }
      },
      full: () => list.length >= MAX_THREADS,
      threads: () => ({ list, ended }),
    }
  }

  function step({ list }: Threads, byte: number): Threads {
    const after = collector()
    for (const { terminal, state, next } of list) {
      if (after.full()) break
      const reached = terminal.step(state, byte)
      if (reached === DEAD) continue
      after.add({ terminal, state: reached, next })
      if (terminal.accepts(reached)) after.enter(next)
    }
    return after.threads()
  }

  function begin(from: Frame): Threads {
    const first = collector()
    first.enter(from)
    return first.threads()
  }

  /** The tokens that leave a terminal, by way of what follows it. */
  function* beyond(reach: Reach, next: Frame): Sliced<Beyond> {
    // Kept by this matcher: its frames mean nothing to others.
    const kept = beyondOf.get(reach) ?? new Map<number, Beyond>()
    beyondOf.set(reach, kept)
    const known = kept.get(next.id)
    if (known !== undefined) return known
    const { bytes, depths, ends } = vocabulary
    const bits = createBits(vocabulary.size)
    const following: Steps = { threads: begin(next), after: new Map() }
    const path: Steps[] = []
    let count = 0
    let work = 0
    for (const exit of reach.exits) {
      const base = depths[exit] ?? 0
      path[base] = following
      const end = ends[exit] ?? 0
      for (let node = exit + 1; node < end; ) {
        const depth = depths[node] ?? 0
        const before = path[depth - 1] ?? following
        const byte = bytes[node] ?? 0
        let after = before.after.get(byte)
        if (after === undefined) {
          after = { threads: step(before.threads, byte), after: new Map() }
          before.after.set(byte, after)
        }
        const cost = THREAD_WORK * Math.max(1, before.threads.list.length)
        work += cost
        if (spend(cost)) yield
        if (after.threads.list.length === 0 && !after.threads.ended) {
          node = ends[node] ?? end
          continue
        }
        path[depth] = after
        count += setTokens(vocabulary, bits, node)
        node++
      }
    }
    const found = { bits, count, work }
    if (kept.size >= MAX_KEPT) kept.clear()
    kept.set(next.id, found)
    return found
  }

  let threads = begin(placeOf(roots, grammar.root, 0, undefined))

  const followFrom = (from: Threads, bytes: Uint8Array): boolean => {
    let after = from
    for (const byte of bytes) {
      after = step(after, byte)
      if (after.list.length === 0 && !after.ended) return false
    }
    threads = after
    return true
  }
  const follow = (bytes: Uint8Array): boolean => followFrom(threads, bytes)

  function* masking({ list }: Threads): Sliced<Uint32Array> {
    const bits = createBits(vocabulary.size)
    let work = 0
    let count = 0
    for (const { terminal, state, next } of list) {
      if (work > MAX_WORK && count > 0) break
      const reach = yield* (terminal.shared === true ? shared : own).of(terminal, state, spend)
      const outside = reach.exits.length === 0 ? undefined : yield* beyond(reach, next)
      work += reach.work + (outside?.work ?? 0)
      count += reach.count + (outside?.count ?? 0)
      for (let i = 0; i < bits.length; i++) {
        bits[i] = (bits[i] ?? 0) | (reach.bits[i] ?? 0) | (outside?.bits[i] ?? 0)
      }
      // Far less each than a step through a tree.
      if (spend(bits.length >>> 3)) yield
    }
    return bits
  }

  /** The mask in the making, of the threads it is for. */
  let making: { readonly of: Threads; readonly slices: Sliced<Uint32Array>; made?: Uint32Array } | undefined
  function prepare(): Uint32Array | undefined {
    if (making?.of !== threads) making = { of: threads, slices: masking(threads) }
    if (making.made === undefined) {
      const slice = making.slices.next()
      if (slice.done === true) making.made = slice.value
    }
    return making.made
  }
  return {
    prepare: () => prepare() !== undefined,
    mask() {
      for (;;) {
        const mask = prepare()
        // Whoever gets it may add to it.
        if (mask !== undefined) return mask.slice()
      }
    },
    accept(token) {
      const bytes = vocabulary.bytesOf[token]
      // Among too many threads the one that allows the token may be left out; by itself it is not.
      const alone = (thread: Thread): boolean => followFrom({ list: [thread], ended: false }, bytes ?? new Uint8Array())
      if (bytes === undefined || !(follow(bytes) || threads.list.some(alone))) {
        throw new EngineError('engine.failed', 'a token was chosen that the grammar does not allow')
      }
    },
    follow,
    mayEnd: () => threads.ended,
    mustEnd: () => threads.ended && !threads.list.some(goesOn),
  }
}

function goesOn({ terminal, state }: Thread): boolean {
  for (let byte = 0; byte < 256; byte++) if (terminal.step(state, byte) !== DEAD) return true
  return false
}

function tooManyWays(): EngineError {
  return new EngineError('schema.unsupported', 'a schema that can be followed in too many ways')
}

/** Counts steps; true whenever a slice of them is full. */
type Meter = (steps: number) => boolean

function createMeter(): Meter {
  let spent = 0
  return (steps) => {
    spent += steps
    if (spent < SLICE_WORK) return false
    spent = 0
    return true
  }
}

interface Reaches {
  of(terminal: Terminal, state: number, spend: Meter): Sliced<Reach>
}

/** Walks the vocabulary once for each state of a terminal, and keeps what it found for a while. */
function createReaches(vocabulary: Vocabulary, limit: number): Reaches {
  const rows = createRows()
  let kept = new Map<Terminal, Map<number, Reach>>()
  let size = 0
  return {
    *of(terminal, exact, spend) {
      const state = terminal.alike?.(exact, vocabulary.longest) ?? exact
      const known = kept.get(terminal)?.get(state)
      if (known !== undefined) return known
      const reach = yield* walk(vocabulary, rows, terminal, state, spend)
      if (size >= limit) {
        kept = new Map()
        size = 0
      }
      const states = kept.get(terminal) ?? new Map<number, Reach>()
      kept.set(terminal, states.set(state, reach))
      size += 1
      return reach
    },
  }
}

function* walk(vocabulary: Vocabulary, rows: Rows, terminal: Terminal, state: number, spend: Meter): Sliced<Reach> {
  const { bytes, depths, ends } = vocabulary
  const bits = createBits(vocabulary.size)
  const exits: number[] = []
  const path: Row[] = [rows.of(terminal, state)]
  let count = 0
  let work = 0
  for (let node = 1; node < bytes.length; ) {
    const depth = depths[node] ?? 0
    const byte = bytes[node] ?? 0
    const before = path[depth - 1]
    let after = before?.next[byte]
    if (before !== undefined && after === undefined) {
      const reached = terminal.step(before.state, byte)
      after = reached === DEAD ? null : rows.of(terminal, reached)
      before.next[byte] = after
    }
    work += 1
    if (spend(1)) yield
    if (after === null || after === undefined) {
      node = ends[node] ?? bytes.length
      continue
    }
    path[depth] = after
    count += setTokens(vocabulary, bits, node)
    // Nothing lies behind a leaf.
    if (after.accepts && (ends[node] ?? 0) > node + 1) exits.push(node)
    node++
  }
  return { bits, exits, count, work }
}

/** Where each byte leads from a state, once it was asked: a walk asks the same a thousand times. */
interface Row {
  readonly state: number
  readonly accepts: boolean
  /** Null: nowhere. */
  readonly next: (Row | null | undefined)[]
}

interface Rows {
  of(terminal: Terminal, state: number): Row
}

function createRows(): Rows {
  let kept = new Map<Terminal, Map<number, Row>>()
  let size = 0
  return {
    of(terminal, state) {
      const known = kept.get(terminal)?.get(state)
      if (known !== undefined) return known
      if (size >= MAX_ROWS) {
        kept = new Map()
        size = 0
      }
      const row: Row = { state, accepts: terminal.accepts(state), next: new Array(256) }
      const states = kept.get(terminal) ?? new Map<number, Row>()
      kept.set(terminal, states.set(state, row))
      size += 1
      return row
    },
  }
}

function createBits(size: number): Uint32Array {
  return new Uint32Array(Math.ceil(size / 32))
}

/** Sets the bits of the tokens that end at a node, and says how many those are. */
function setTokens({ firsts, tokens }: Vocabulary, bits: Uint32Array, node: number): number {
  const first = firsts[node] ?? 0
  const end = firsts[node + 1] ?? 0
  for (let i = first; i < end; i++) {
    const token = tokens[i] ?? 0
    bits[token >>> 5] = (bits[token >>> 5] ?? 0) | (1 << (token & 31))
  }
  return end - first
}
