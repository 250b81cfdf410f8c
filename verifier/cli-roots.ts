/** `verify-attestation roots`: the vendor keys every verdict ends in, so that they can be compared with the vendors' own. */
import type { Command } from 'commander'
import { formatOption, type Output } from './print.js'
import { PINNED_ROOTS } from './roots.js'

export const ROOTS_SCHEMA = 'subrosa-roots/1'

export function registerRoots(program: Command, output: Output, done: (status: number) => void): void {
  program
    .command('roots')
    .description('print the pinned vendor roots: kind, product, SHA-256 of the key, source, date')
    .addOption(formatOption(['text', 'json']))
    .action((flags: { format: 'text' | 'json' }) => {
      output.stdout.write(flags.format === 'json' ? `${JSON.stringify(rootsToJson(), null, 2)}\n` : renderRoots())
      done(0)
    })
}

function rootsToJson() {
  return {
    schema: ROOTS_SCHEMA,
    roots: PINNED_ROOTS.map(({ kind, product, name, spkiSha256Hex, source, since }) => ({
      kind,
      product: product ?? null,
      name,
      spkiSha256: spkiSha256Hex,
      source,
      since,
    })),
  }
}

function renderRoots(): string {
  const blocks = PINNED_ROOTS.map(({ kind, product, name, spkiSha256Hex, source, since }) =>
    [
      `${kind}${product === undefined ? '' : ` ${product}`}  ${name}, valid since ${since}`,
      `  key     ${spkiSha256Hex}`,
      `  source  ${source}`,
    ].join('\n'),
  )
  return `${blocks.join('\n')}\n\nEach key is SHA-256 of the root certificate’s SubjectPublicKeyInfo.\n`
}
