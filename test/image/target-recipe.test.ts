/** What kernels are kept by covers all that makes them: the text of their stages, with what it takes from and copies. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { repository } from '../../scripts/image/places.js'
import { targetRecipe } from '../../scripts/image/target-recipe.js'

const recipe = readFileSync(join(repository, 'Dockerfile.enclave'), 'utf8')
const KERNELS = ['kernel', 'gpu-kernel'] as const

describe('the recipe of a kernel', () => {
  it('is its arguments, its stages, and what they copy', () => {
    expect(targetRecipe(recipe, 'kernel')).toEqual({
      text: [
        'ARG KERNEL_BASE=scratch',
        'FROM scratch AS kernel',
        'COPY --from=build-kernel /out/ /',
        `FROM \${KERNEL_BASE} AS build-kernel`,
        'ARG SOURCE_DATE_EPOCH',
        'COPY scripts/image/kernel/ /src/kernel/',
        'RUN sh /src/kernel/build.sh',
      ].join('\n'),
      sources: ['scripts/image/kernel/'],
    })
    expect(targetRecipe(recipe, 'gpu-kernel').sources).toEqual(['scripts/image/kernel/', 'scripts/image/gpu/'])
  })

  it.each(KERNELS)('%s is another with each of its lines, and the same with every other line of the file', (name) => {
    const lines = recipe.split('\n')
    const { text } = targetRecipe(recipe, name)
    let stage = ''
    const own = lines.filter((line, at) => {
      stage = /^FROM \S+ AS (\S+)$/.exec(line)?.[1] ?? stage
      if (line === '') return false
      const changed = [...lines.slice(0, at), `${line}x`, ...lines.slice(at + 1)].join('\n')
      const isOwn =
        stage === '' ? text.includes(line) : [name, `build-${name}`].includes(stage) && !line.startsWith('#')
      if (isOwn) expect(() => expect(targetRecipe(changed, name).text).toBe(text), line).toThrow()
      else expect(targetRecipe(changed, name).text, line).toBe(text)
      return isOwn
    })
    expect(own).toHaveLength(text.split('\n').length)
  })

  it.each([
    ...['ADD base.tar /', 'RUN --mount=type=bind,from=build sh /src/a.sh', 'RUN sh /src/a.sh \\', 'RUN <<END'],
    ...[
      'COPY --chmod=755 scripts/ /src/',
      'COPY enclave/ verifier/ /src/',
      'COPY . /src/',
      'COPY ../out/ /src/',
      'ENV CC=cc',
    ],
    ...[
      'COPY scripts/image/lock.ts /src/',
      'ONBUILD RUN sh /src/a.sh',
      ' RUN sh /src/a.sh',
      'run sh /src/a.sh',
      'SHELL ["cc"]',
    ],
  ])('is refused with an instruction that it does not know: %s', (line) => {
    const other = recipe.replace('RUN sh /src/kernel/build.sh', line)
    expect(() => targetRecipe(other, 'kernel')).toThrow(`Dockerfile.enclave, kernel: ${line}: `)
    expect(() => targetRecipe(other, 'gpu-kernel')).not.toThrow()
  })

  it.each([
    ['a base from elsewhere', 'FROM debian:trixie AS build-kernel', 'debian:trixie'],
    ['a base that has no name', `FROM \${KERNEL_BASE}`, 'build-kernel'],
    ['an option on its base', `FROM --platform=linux/arm64 \${KERNEL_BASE} AS build-kernel`, 'build-kernel'],
  ])('is refused with %s', (_, line, missing) => {
    const other = recipe.replace(`FROM \${KERNEL_BASE} AS build-kernel`, line)
    expect(() => targetRecipe(other, 'kernel')).toThrow(`expected a stage ${missing}, there is none`)
  })

  it('has the stages that its stages take from', () => {
    const more = recipe.replace(
      `FROM \${KERNEL_BASE} AS build-kernel`,
      `FROM \${KERNEL_BASE} AS more\nARG MORE\nFROM more AS build-kernel`,
    )
    expect(targetRecipe(more, 'kernel').text).toContain(`FROM \${KERNEL_BASE} AS more\nARG MORE`)
  })
})
