/** Texts become tokens on a thread of their own, and those that cannot fit do not get there. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openChats } from '../../enclave/inference/chat-trial.js'
import { createFewestTokens } from '../../enclave/inference/fewest-tokens.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { createTokenizer, type TextTokenizer } from '../../enclave/inference/tokenizer.js'
import { fromUtf8, utf8 } from '../../verifier/protocol/bytes.js'
import { PACKAGE_DIRECTORY } from './model.js'

let modelPackage: ModelPackage
let tokenizer: TextTokenizer

/** The demo model, whose texts are split by another expression first. */
function splitBy(regex: string): ModelPackage {
  const own = JSON.parse(fromUtf8(modelPackage.files.get('tokenizer.json') ?? new Uint8Array()))
  const split = { type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false }
  const changed = { ...own, pre_tokenizer: { type: 'Sequence', pretokenizers: [split, own.pre_tokenizer] } }
  return { ...modelPackage, files: new Map([...modelPackage.files, ['tokenizer.json', utf8(JSON.stringify(changed))]]) }
}

beforeAll(async () => {
  modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
  tokenizer = await createTokenizer(modelPackage)
})
afterAll(() => tokenizer.close())

describe('a text on its way to tokens', () => {
  it('holds up nobody: the event loop turns while it is read', async () => {
    let turns = 0
    let next = setImmediate(function again() {
      turns += 1
      next = setImmediate(again)
    })
    const ids = await tokenizer.encode(['\n'.repeat(100_000)])
    clearImmediate(next)
    expect(ids.length).toBeGreaterThan(1000)
    expect(turns).toBeGreaterThan(10)
  })

  it('waits for one longer one at most', async () => {
    const ended: string[] = []
    const encode = (name: string, length: number): Promise<unknown> =>
      tokenizer.encode(['\n'.repeat(length)]).then(() => ended.push(name))
    await Promise.all([encode('first', 20_000), encode('longer', 30_000), encode('short', 1), encode('middle', 100)])
    expect(ended).toEqual(['first', 'short', 'middle', 'longer'])
  })

  it('that a regular expression of the package would never end with is given up, and the others are read', async () => {
    const hostile = await createTokenizer(splitBy('^(a+)+$'))
    const endless = hostile.encode([`${'a'.repeat(60)}!`])
    const others = Promise.all([hostile.encode(['Hello']), hostile.encode([`${'a'.repeat(60)}!`]).catch(() => 'slow')])
    await expect(endless).rejects.toMatchObject({ code: 'text.slow' })
    expect(await others).toEqual([await tokenizer.encode(['Hello']), 'slow'])
    expect(hostile.healthy()).toBe(true)
    await hostile.close()
  }, 60_000)

  it('that no chat of one message comes to the end of is a package that nobody can use', async () => {
    await expect(openChats(splitBy('(?:(?:(?:[\\s\\S]+)+)+)+[0-9]{9}'))).rejects.toThrowError(
      expect.objectContaining({ code: 'package.unusable', message: expect.stringContaining('takes too long') }),
    )
  }, 60_000)

  it('is made of its parts', async () => {
    const [left, right] = [await tokenizer.encode(['Hello']), await tokenizer.encode([' there'])]
    expect(await tokenizer.encode(['Hello', '', ' there'])).toEqual([...left, ...right])
  })

  it('is refused where it cannot fit, without being read', async () => {
    const text = '1'.repeat(1_000_000)
    const running = tokenizer.encode(['\n'.repeat(50_000)])
    let read = false
    void running.then(() => {
      read = true
    })
    // The thread is busy: who needs it comes behind.
    await expect(tokenizer.encode([text], 512)).rejects.toMatchObject({ code: 'context.overflow' })
    await expect(tokenizer.encode(['1'.repeat(300), '1'.repeat(300)], 512)).rejects.toMatchObject({
      code: 'context.overflow',
    })
    expect(read).toBe(false)
    await running
  })

  it('fails when the engine closes, and so does what comes after', async () => {
    const own = await createTokenizer(modelPackage)
    const waiting = ['a', 'b'].map((text) => expect(own.encode([text])).rejects.toMatchObject({ code: 'closed' }))
    await own.close()
    await Promise.all(waiting)
    await expect(own.encode(['a'])).rejects.toMatchObject({ code: 'closed' })
  })

  it('needs rules that the library can run', async () => {
    const files = new Map(modelPackage.files)
    const definition = JSON.parse(new TextDecoder().decode(files.get('tokenizer.json')))
    files.set('tokenizer.json', utf8(JSON.stringify({ ...definition, model: { ...definition.model, merges: [5] } })))
    await expect(createTokenizer({ ...modelPackage, files })).rejects.toMatchObject({ code: 'package.unusable' })
  })
})

describe('the fewest tokens a text can be', () => {
  it('are never more than it is', async () => {
    const bytes = (tokenizer.vocabulary?.bytesOf ?? []).filter((own) => own !== undefined)
    const files = modelPackage.files.get('tokenizer.json')
    const fewest = createFewestTokens(JSON.parse(new TextDecoder().decode(files)), bytes, [])
    if (fewest === undefined) throw new Error('nothing is known of this tokenizer')
    const words = fc.constantFrom('the ', ' attestation', '\n\n', '    ', '12', 'é', '日本', 'quote', '.', '\u2581')
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(words).map((all) => all.join('')),
    )
    let close = 0
    await fc.assert(
      fc.asyncProperty(texts, async (text) => {
        const tokens = (await tokenizer.encode([text])).length
        const least = fewest(text, 1000)
        expect(least).toBeLessThanOrEqual(tokens)
        expect(least).toBeGreaterThanOrEqual(text === '' ? 0 : 1)
        if (least * 2 >= tokens) close += 1
      }),
    )
    expect(close).toBeGreaterThan(20)
  })

  const TOKENS = ['a', 'b', 'aa', 'aaaa', ' ', 'ab'].map((token) => utf8(token))
  const ofText = (definition: object, text: string, most = 100): number | undefined =>
    createFewestTokens(definition, TOKENS, [])?.(text, most)

  it.each([
    ['', 0],
    ['a', 1],
    ['aaaa', 1],
    ['aaaaa', 2],
    ['abab', 2],
    ['bbbb', 4],
    // Those that no token writes may come to nothing.
    ['bxxxxb', 2],
    ['a\u2581a', 3],
  ])('of %j are %d', (text, count) => {
    expect(ofText({}, text)).toBe(count)
  })

  it('are counted no further than they matter', () => {
    expect(ofText({}, 'b'.repeat(1000), 5)).toBe(6)
  })

  it.each([
    ['a normalizer that leaves something out', { normalizer: { type: 'Strip' } }],
    ['a split that does', { pre_tokenizer: { type: 'Split', behavior: 'Removed', invert: false } }],
    ['a split into what matches', { pre_tokenizer: { type: 'Split', behavior: 'Isolated', invert: true } }],
    ['one of several', { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Digits' }, { type: 'Bert' }] } }],
  ])('are not known behind %s', (_, definition) => {
    expect(ofText(definition, 'aaa')).toBeUndefined()
  })

  it('are not known where an added token takes the spaces beside it', () => {
    expect(createFewestTokens({}, TOKENS, [{ content: 'x', lstrip: true }])).toBeUndefined()
  })
})
