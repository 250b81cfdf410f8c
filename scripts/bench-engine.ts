/**
 * `npm run bench:engine [-- --only NAME] [-- --json]`: the engine's speed, printed as `npm run bench` does. It takes minutes,
 * and what is held against llama.cpp needs node-llama-cpp (scripts/bench/llama-cpp.ts says how).
 */
import { ENGINE_BENCHMARKS } from './bench/engine.js'
import { runBenchmarks } from './bench.js'

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runBenchmarks(process.argv.slice(2), process, undefined, ENGINE_BENCHMARKS)
}
