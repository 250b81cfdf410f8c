import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createTemplate } from '../../enclave/inference/template.js'

const render = (source: string, messages: readonly unknown[] = [{ role: 'user', content: 'x' }]): string =>
  createTemplate(source, { bos_token: '<s>' }).render(messages)

describe('chat templates', () => {
  it.each([
    ['loops in loops', '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}x'],
    ['a loop with a body', '{% for a in range(3000) %}{% for b in range(3000) %}{{ a }}{% endfor %}{% endfor %}'],
    [
      'a text that doubles',
      '{% set s = namespace(v="x") %}{% for a in range(60) %}{% set s.v = s.v + s.v %}{% endfor %}',
    ],
    [
      'a list that holds another twice, which does so too',
      '{% set ns = namespace(x=["a"]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}',
    ],
    [
      'an object that does',
      '{% set ns = namespace(x={}) %}{% for i in range(40) %}{% set ns.x = {"a": ns.x, "b": ns.x} %}{% endfor %}{{ ns.x | tojson }}',
    ],
    ['a long list of numbers', '{{ range(1000000000) | length }}'],
    ['a list without an end', '{{ range(0, 1, 0) }}'],
    ['a list of what is no number', '{{ range("many") }}'],
    ['filters of a long list', '{% for a in range(100000) %}{{ range(100000) | join | length }}{% endfor %}'],
    [
      'a macro that calls itself twice',
      '{% macro m(n) %}{{ m(n - 1) if n else "" }}{{ m(n - 1) if n else "" }}{% endmacro %}{{ m(60) }}',
    ],
  ])('are refused with their package where they do not end: %s', (_, source) => {
    expect(() => createTemplate(source, {})).toThrowError(
      expect.objectContaining({ code: 'package.unusable', message: expect.stringContaining('goes on for too long') }),
    )
  })

  it('refuse a chat that they would take too long for', () => {
    const template = createTemplate(
      '{% for m in messages %}{% for n in messages %}{% for o in messages %}{% endfor %}{% endfor %}{% endfor %}',
      {},
    )
    const chat = (length: number) => Array.from({ length }, () => ({ role: 'user', content: 'x' }))
    expect(template.render(chat(50))).toBe('')
    expect(() => template.render(chat(500))).toThrowError(
      expect.objectContaining({ code: 'chat.invalid', message: expect.stringContaining('goes on for too long') }),
    )
  })

  it('quote no chat in what they throw', () => {
    for (const source of [
      '{{ raise_exception(messages[0].content) }}',
      '{{ messages[0].content.nothing() }}',
      '{{ 1 + none }}',
    ]) {
      try {
        render(source, [{ role: 'user', content: 'CANARY' }])
        expect.unreachable()
      } catch (error) {
        expect(error).toMatchObject({ code: 'chat.invalid' })
        expect((error as Error).cause).toBeUndefined()
        expect(String(error)).not.toContain('CANARY')
      }
    }
  })

  it('have what the library gives to templates', () => {
    expect(render('{{ bos_token }}{{ true }}{{ True }}{{ none is none }}{{ None is none }}{{ false or False }}')).toBe(
      '<s>truetruetruetruefalse',
    )
    expect(
      render('{{ range(2, 8, 3) | join(",") }} {{ range(3) | join(",") }} {{ range(3, 0, -1) | join(",") }}'),
    ).toBe('2,5 0,1,2 3,2,1')
    expect(render('{{ strftime_now("%Y") }}')).toMatch(/^\d{4}$/)
  })

  it('have room for chats of thousands of messages', () => {
    const source =
      '{% for m in messages %}{% if loop.first and messages[0].role != "system" %}{{ "s" }}{% endif %}<{{ m.role }}>{{ m.content | trim }}</>{% endfor %}'
    const messages = Array.from({ length: 4000 }, (_, i) => ({ role: i % 2 ? 'assistant' : 'user', content: `m${i} ` }))
    const expected = messages.map(({ role, content }) => `<${role}>${content.trim()}</>`).join('')
    expect(render(source, messages)).toBe(`s${expected}`)
    fc.assert(
      fc.property(fc.string({ maxLength: 200_000, size: 'max' }), (content) => {
        expect(render('{{ messages[0].content }}', [{ content }])).toBe(content)
      }),
      { numRuns: 20 },
    )
  })
})
