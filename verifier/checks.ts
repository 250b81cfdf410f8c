/**
 * Checks and verdicts: what a check is, how a plan of checks is carried out, and how a verdict follows from it.
 *
 * A plan is an ordered list of check definitions. Every check of the plan appears in the transcript, in plan order,
 * whatever happened; one that was never reached is a skip, and a skip is never a way to pass. The only skip that does
 * not stand in the way of acceptance is a *waiver*, which a policy writes out and every verdict repeats.
 */
import { FormatError } from './protocol/errors.js'

export type CheckStatus = 'pass' | 'fail' | 'skip'

/** A named check, as registered. Ids never change meaning; a check that means something else gets a new id. */
export interface CheckDefinition {
  /** Dotted, lower case: `snp.report.signature`. */
  readonly id: string
  /** What holds when it passes: a sentence without its full stop. */
  readonly title: string
  /** The document and section it implements. */
  readonly spec: string
  /** What an attacker gains if nobody makes this check. One sentence, shown by `--explain`. */
  readonly gain: string
  /** What to do when it fails. One sentence, shown with a rejection. */
  readonly advice?: string
  /** Checks that must have passed (or been waived) for this one to mean anything. */
  readonly needs?: readonly string[]
  /** A failure says that the input is not what it claims to be at all: exit status 3 rather than 1. */
  readonly malformed?: boolean
}

/** One line of a transcript, as printed. */
export interface Check {
  readonly id: string
  readonly title: string
  readonly spec: string
  readonly status: CheckStatus
  /** Present whenever the status is not `pass`. */
  readonly reason?: string
  readonly expected?: string
  readonly actual?: string
}

/** Printable detail of a finding: what was required and what the evidence says. */
export interface Detail {
  readonly expected?: string
  readonly actual?: string
}

export type Finding<T = undefined> =
  | { readonly status: 'pass'; readonly value: T; readonly detail?: Detail }
  /** `final`: no grace bears it. */
  | { readonly status: 'fail'; readonly reason: string; readonly detail?: Detail; readonly final?: true }
  | { readonly status: 'skip'; readonly cause: 'unavailable'; readonly reason: string; readonly detail?: Detail }
  /** The policy gave this check up. `value` lets a later stage go on where the waiver has something to go on with. */
  | {
      readonly status: 'skip'
      readonly cause: 'waived'
      readonly reason: string
      readonly value?: T
      readonly detail?: Detail
    }

export function pass(): Finding<undefined>
export function pass<T>(value: T, detail?: Detail): Finding<T>
export function pass<T>(value?: T, detail?: Detail): Finding<T | undefined> {
  return detail === undefined ? { status: 'pass', value } : { status: 'pass', value, detail }
}

export function fail(reason: string, detail?: Detail): Finding<never> {
  return detail === undefined ? { status: 'fail', reason } : { status: 'fail', reason, detail }
}

/** As `fail`, where what was found is so bad that a grace for the check does not cover it. */
export function failForGood(reason: string, detail: Detail): Finding<never> {
  return { status: 'fail', reason, detail, final: true }
}

/** An input this check needs is not at hand: not success, and not a rejection either. */
export function unavailable(reason: string): Finding<never> {
  return { status: 'skip', cause: 'unavailable', reason }
}

/** The policy gives this check up, in so many words; the reason is printed after `waived: `. */
export function waived(reason: string): Finding<never> {
  return { status: 'skip', cause: 'waived', reason: `waived: ${reason}` }
}

export type Verdict = 'accepted' | 'rejected' | 'malformed' | 'unavailable'

/** Exit status of every tool, by verdict. Misuse (2) has no verdict. */
export const EXIT_CODES: Readonly<Record<Verdict, 0 | 1 | 3 | 4>> = {
  accepted: 0,
  rejected: 1,
  malformed: 3,
  unavailable: 4,
}

type Recorded = Finding<unknown> | { readonly status: 'skip'; readonly cause: 'needs'; readonly reason: string }

/** Carries out one plan and keeps what was found. */
export class Transcript {
  readonly #plan: readonly CheckDefinition[]
  readonly #byId: ReadonlyMap<string, CheckDefinition>
  readonly #graces: ReadonlyMap<string, string>
  readonly #entries = new Map<string, Recorded>()

  /**
   * `graces`: checks whose failing, or lacking their input, the policy bears for a while, and the words for it.
   * @throws Error on a plan with a repeated id: a programming mistake.
   */
  constructor(plan: readonly CheckDefinition[], graces: ReadonlyMap<string, string> = new Map()) {
    this.#graces = graces
    this.#plan = plan
    this.#byId = new Map(plan.map((definition) => [definition.id, definition]))
    if (this.#byId.size !== plan.length) throw new Error('a plan names a check twice')
  }

  /**
   * Carries out one check and returns its value, or undefined unless it passed.
   * When a check it needs has not passed, it is skipped and `find` is not called. A FormatError from `find` is a
   * failure; any other exception is a defect of ours and propagates.
   */
  check<T>(id: string, find: () => Finding<T>): T | undefined {
    if (!this.#ready(id)) return undefined
    let finding: Finding<T>
    try {
      finding = find()
    } catch (error) {
      finding = failureOf(error)
    }
    return this.#record(id, finding)
  }

  /** As `check`, for checks that wait for WebCrypto. */
  async checkAsync<T>(id: string, find: () => Promise<Finding<T>>): Promise<T | undefined> {
    if (!this.#ready(id)) return undefined
    let finding: Finding<T>
    try {
      finding = await find()
    } catch (error) {
      finding = failureOf(error)
    }
    return this.#record(id, finding)
  }

  /** Whether the check is part of this plan. */
  plans(id: string): boolean {
    return this.#byId.has(id)
  }

  /** Whether the check passed. */
  passed(id: string): boolean {
    return this.#entries.get(id)?.status === 'pass'
  }

  /** Whether the check passed or the policy waived it. */
  satisfied(id: string): boolean {
    const finding = this.#entries.get(id)
    return finding?.status === 'pass' || (finding?.status === 'skip' && finding.cause === 'waived')
  }

  /** Every check of the plan in plan order. */
  checks(): readonly Check[] {
    return this.#plan.map((definition) => {
      const { id, title, spec } = definition
      const finding = this.#entries.get(id)
      if (finding === undefined) return { id, title, spec, status: 'skip', reason: this.#unreached(definition) }
      const detail = 'detail' in finding ? finding.detail : undefined
      return {
        id,
        title,
        spec,
        status: finding.status,
        ...(finding.status === 'pass' ? {} : { reason: finding.reason }),
        ...(detail?.expected === undefined ? {} : { expected: detail.expected }),
        ...(detail?.actual === undefined ? {} : { actual: detail.actual }),
      }
    })
  }

  /** Malformed before rejected before unavailable; accepted only when every check passed or was waived. */
  verdict(): Verdict {
    let rejected = false
    let missing = false
    let incomplete = false
    for (const definition of this.#plan) {
      const finding = this.#entries.get(definition.id)
      if (finding?.status === 'fail') {
        if (definition.malformed === true) return 'malformed'
        rejected = true
      } else if (finding?.status === 'skip' && finding.cause === 'unavailable') missing = true
      else if (!this.satisfied(definition.id)) incomplete = true
    }
    if (rejected) return 'rejected'
    if (missing) return 'unavailable'
    return incomplete ? 'rejected' : 'accepted'
  }

  #ready(id: string): boolean {
    const definition = this.#byId.get(id)
    if (definition === undefined) throw new Error(`check ${id} is not in this plan`)
    if (this.#entries.has(id)) throw new Error(`check ${id} was carried out twice`)
    const missing = definition.needs?.find((needed) => this.#byId.has(needed) && !this.satisfied(needed))
    if (missing === undefined) return true
    this.#entries.set(id, { status: 'skip', cause: 'needs', reason: `needs ${missing}` })
    return false
  }

  #record<T>(id: string, found: Finding<T>): T | undefined {
    const finding = this.#borne(id, found)
    this.#entries.set(id, finding)
    if (finding.status === 'pass') return finding.value
    return finding.status === 'skip' && finding.cause === 'waived' ? finding.value : undefined
  }

  /** A failure that has grace is a waiver, with what was found in its reason. */
  #borne<T>(id: string, found: Finding<T>): Finding<T> {
    const grace = this.#graces.get(id)
    const stands =
      (found.status === 'fail' && found.final !== true) || (found.status === 'skip' && found.cause === 'unavailable')
    if (grace === undefined || !stands) return found
    const { reason, detail } = found
    return { ...waived(`${grace}; ${reason}`), ...(detail === undefined ? {} : { detail }) }
  }

  #unreached(definition: CheckDefinition): string {
    const missing = definition.needs?.find((needed) => this.#byId.has(needed) && !this.satisfied(needed))
    return missing === undefined ? 'not reached' : `needs ${missing}`
  }
}

function failureOf(error: unknown): Finding<never> {
  if (error instanceof FormatError) return fail(error.message)
  throw error
}
