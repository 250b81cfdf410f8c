/**
 * What of Dockerfile.enclave makes one target: the text of its stages, and what they copy out of the checkout. Only for stages whose
 * outcome is kept by the hash of this: any instruction but the few that such stages need is refused, as one that is overlooked
 * might bring in what the hash does not cover.
 */
import { ImageError } from './command.js'

export interface TargetRecipe {
  /** The arguments and stages that make it, without comments. */
  readonly text: string
  /** Folders of the checkout, in the order in which they are copied. */
  readonly sources: readonly string[]
}

const COMMENT = /^(#.*)?$/
const STAGE = /^FROM (\S+) AS ([a-z-]+)$/
const COPY_FROM = /^COPY --from=([a-z-]+) \S+ \S+$/
const COPY_FOLDER = /^COPY ([a-z][a-z/-]*\/) \S+$/
/** No mounts, no here-documents, no line that goes on. */
const OTHERS = /^(ARG [A-Z_]+|RUN sh \/[a-z/-]+\.sh)$/

/** @throws ImageError when the target, or what it takes from, is no stage, or holds an instruction that is not known here. */
export function targetRecipe(recipe: string, target: string): TargetRecipe {
  const lines = recipe.split('\n').filter((line) => !COMMENT.test(line))
  const [beforeStages = '', ...stages] = lines.join('\n').split(/^(?=FROM )/m)
  const byName = new Map(stages.map((stage) => [STAGE.exec(stage.split('\n')[0] ?? '')?.[2], stage.trim()]))
  const globals = beforeStages.split('\n').filter((line) => line !== '')
  const [taken, sources] = [new Set<string>(), [] as string[]]
  const take = (name: string): void => {
    const stage = byName.get(name)
    if (stage === undefined) throw new ImageError(`Dockerfile.enclave: expected a stage ${name}, there is none`)
    if (taken.has(stage)) return
    taken.add(stage)
    for (const line of stage.split('\n')) takeLine(line)
  }
  const takeLine = (line: string): void => {
    const stage = (STAGE.exec(line) ?? COPY_FROM.exec(line))?.[1]
    const folder = COPY_FOLDER.exec(line)?.[1]
    if (stage !== undefined) {
      if (!isGiven(stage)) take(stage)
    } else if (folder !== undefined) sources.push(folder)
    else if (!OTHERS.test(line)) {
      throw new ImageError(
        `Dockerfile.enclave, ${target}: ${line}: not known to what names kept kernels (target-recipe.ts)`,
      )
    }
  }
  take(target)
  const text = [...taken].join('\n')
  const used = globals.filter((line) => new RegExp(`\\b${/^ARG (\w+)/.exec(line)?.[1] ?? ''}\\b`).test(text))
  return { text: [...used, text].join('\n'), sources }
}

/** Nothing, or a base, whose packages are hashed by themselves. */
function isGiven(image: string): boolean {
  return image === 'scratch' || /^\$\{[A-Z_]+\}$/.test(image)
}
