/**
 * Trials at start-up. First: are there numbers at all, rather than what overflow leaves? Then: does a row's outcome depend on its neighbours, on how its prompt was cut, or on an earlier prompt's
 * beginning being gone on with, or an answer verified several tokens at once? Nodes are judged
 * by their form before (`onnx/row-independence.ts`); this notices what no form tells, such as another processor's kernels.
 */
import type { Decoder } from './decoder.js'

const PROMPT_TOKENS = 23
const CUT = 9
const VERIFIED = 14

/**
 * Whether a prompt's run and an answer's both give logits that are finite and not all one, over the first and the last token of
 * the vocabulary. Leaves the decoder empty.
 */
export async function givesLogits(decoder: Decoder, vocabularySize: number): Promise<boolean> {
  const [first, ...rest] = [0, vocabularySize - 1].slice(0, Math.max(1, decoder.slotTokens - 1))
  const prefilled = tellsTokens(await decoder.prefill(0, [first ?? 0, ...rest]))
  const [row] = decoder.slotTokens > 1 + rest.length ? await decoder.decode([{ slot: 0, tokenId: 0 }]) : []
  const decoded = row === undefined || tellsTokens(row)
  await decoder.clear(0)
  return prefilled && decoded
}

function tellsTokens(logits: Float32Array): boolean {
  return logits.every(Number.isFinite) && (logits.length < 2 || logits.some((logit) => logit !== logits[0]))
}

/** Whether every bit was the same. Leaves the decoder empty. With one slot there is nothing to depend on but the cut. */
export async function rowsAreIndependent(decoder: Decoder, vocabularySize: number): Promise<boolean> {
  const token = (i: number, salt: number): number => (i * 7919 + salt * 104_729 + 13) % vocabularySize
  const prompt = (length: number, salt: number): number[] => Array.from({ length }, (_, i) => token(i, salt))
  const length = Math.min(PROMPT_TOKENS, decoder.slotTokens - 2)
  if (length <= VERIFIED + 1) return true
  const neighbours = Math.min(3, decoder.slots - 1)
  const subject = prompt(length, 1)
  const next = token(3, 2)

  const whole = (await decoder.prefill(0, subject)).slice()
  const alone = (await decoder.decode([{ slot: 0, tokenId: next }]))[0]?.slice()
  await decoder.truncate(0, CUT)
  const resumed = (await decoder.prefill(0, subject.slice(CUT))).slice()
  await decoder.clear(0)

  const shorter = (await decoder.prefill(0, subject.slice(0, VERIFIED))).slice()
  await decoder.truncate(0, CUT)
  const verified = (await decoder.verify?.(0, [...subject.slice(CUT, VERIFIED), next]))?.at(-2)?.slice()
  await decoder.clear(0)

  await decoder.prefill(0, subject.slice(0, CUT))
  const cut = (await decoder.prefill(0, subject.slice(CUT))).slice()
  for (let slot = 1; slot <= neighbours; slot++) await decoder.prefill(slot, prompt(4 + 5 * slot, slot + 2))
  const rows = Array.from({ length: neighbours + 1 }, (_, slot) => ({
    slot,
    tokenId: slot === 0 ? next : token(slot, 5),
  }))
  const together = (await decoder.decode(rows))[0]?.slice()
  for (const { slot } of rows) await decoder.clear(slot)
  const answers = verified === undefined || same(shorter, verified)
  return same(whole, cut) && same(whole, resumed) && same(alone, together) && answers
}

function same(a: Float32Array | undefined, b: Float32Array | undefined): boolean {
  return a !== undefined && b !== undefined && Buffer.from(a.buffer).equals(Buffer.from(b.buffer))
}
