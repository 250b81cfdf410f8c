/**
 * Public metrics in the Prometheus text format (version 0.0.4). They are coarse on purpose: published once a minute,
 * with wide buckets and no token, byte or cache counters, which would undo the padding of answers. Speed is one
 * mean over the whole boot, rounded. No label is ever taken from a request.
 */

/** What requests can end as, from outside the encryption. */
export type MetricRoute = 'attestation' | 'keys' | 'ohttp' | 'plaintext' | 'other'

export interface Metrics {
  request(route: MetricRoute, status: number, durationMs: number): void
  /** One batch of client nonces that became one report. */
  report(nonces: number): void
  /** One finished answer: tokens generated in that time. */
  answer(tokens: number, durationMs: number): void
  /** The latest published snapshot. */
  text(): string
}

const PUBLISH_INTERVAL_MS = 60_000
const BUCKETS_S = [0.1, 1, 10, 60] as const
const ROUTES: readonly MetricRoute[] = ['attestation', 'keys', 'ohttp', 'plaintext', 'other']
const CLASSES = ['2xx', '4xx', '5xx'] as const
/** Below this many answers a mean would say something about one of them. */
const MIN_ANSWERS = 20

/** @param now milliseconds, any epoch. */
export function createMetrics(now: () => number): Metrics {
  const requests = new Map<string, number>()
  const buckets = new Map<string, number>()
  const answers = { count: 0, tokens: 0, durationMs: 0 }
  const reports = { count: 0, nonces: 0 }
  let published = { at: now(), text: '' }

  const add = (map: Map<string, number>, key: string): void => {
    map.set(key, (map.get(key) ?? 0) + 1)
  }
  const render = (): string => {
    const lines = [
      '# HELP subrosa_requests_total Requests by route and status class.',
      '# TYPE subrosa_requests_total counter',
    ]
    for (const route of ROUTES) {
      for (const status of CLASSES) {
        const key = `route="${route}",status="${status}"`
        lines.push(`subrosa_requests_total{${key}} ${requests.get(key) ?? 0}`)
      }
    }
    lines.push(
      '# HELP subrosa_request_duration_bucket_total Requests that took at most le seconds, by route.',
      '# TYPE subrosa_request_duration_bucket_total counter',
    )
    for (const route of ROUTES) {
      for (const le of [...BUCKETS_S, '+Inf']) {
        const key = `route="${route}",le="${le}"`
        lines.push(`subrosa_request_duration_bucket_total{${key}} ${buckets.get(key) ?? 0}`)
      }
    }
    lines.push(
      '# HELP subrosa_reports_total Hardware reports made.',
      '# TYPE subrosa_reports_total counter',
      `subrosa_reports_total ${reports.count}`,
      '# HELP subrosa_nonces_total Client nonces those reports cover.',
      '# TYPE subrosa_nonces_total counter',
      `subrosa_nonces_total ${reports.nonces}`,
      '# HELP subrosa_answer_tokens_per_second Mean speed of answers since start, prompt included, rounded to 5.',
      '# TYPE subrosa_answer_tokens_per_second gauge',
    )
    if (answers.count >= MIN_ANSWERS && answers.durationMs > 0) {
      const speed = (1000 * answers.tokens) / answers.durationMs
      lines.push(`subrosa_answer_tokens_per_second ${5 * Math.round(speed / 5)}`)
    }
    return `${lines.join('\n')}\n`
  }
  published = { at: now(), text: render() }

  return {
    request(route, status, durationMs) {
      add(requests, `route="${route}",status="${status >= 500 ? '5xx' : status >= 400 ? '4xx' : '2xx'}"`)
      for (const le of BUCKETS_S) if (durationMs <= 1000 * le) add(buckets, `route="${route}",le="${le}"`)
      add(buckets, `route="${route}",le="+Inf"`)
    },
    report(nonces) {
      reports.count += 1
      reports.nonces += nonces
    },
    answer(tokens, durationMs) {
      answers.count += 1
      answers.tokens += tokens
      answers.durationMs += durationMs
    },
    text() {
      const at = now()
      if (at - published.at >= PUBLISH_INTERVAL_MS) published = { at, text: render() }
      return published.text
    },
  }
}
