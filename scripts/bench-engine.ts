/**
 * `npm run bench:engine [-- --only NAME] [-- --json]`: the engine's speed, printed as `npm run bench` does, each figure by a
 * process of its own. It takes minutes, and what is held against llama.cpp needs node-llama-cpp (scripts/bench/llama-cpp.ts
 * says how).
 */
import { ENGINE_BENCHMARKS } from './bench/engine.js'
import { runBenchmarksApart } from './bench.js'

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runBenchmarksApart(process.argv.slice(2), process, import.meta.filename, ENGINE_BENCHMARKS)
}
