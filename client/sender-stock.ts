/**
 * Encapsulations made ahead. Encapsulating costs a client most of the time it adds to a first token, and does not depend
 * on what is asked: so when one answer has ended, the encapsulation for the next request is made, and kept, one at a time.
 */
import { equalBytes } from '../verifier/protocol/bytes.js'
import { type PreparedSender, prepareSender } from '../verifier/protocol/ohttp.js'
import type { KeyConfiguration } from '../verifier/protocol/ohttp-keys.js'

export interface SenderStock {
  /** One for this key and no other: the one at hand, which is then gone, or a new one. */
  take(configuration: KeyConfiguration): Promise<PreparedSender>
  /** Makes one for the next request to this key. Never fails: a key that cannot be used fails when it is. */
  refill(configuration: KeyConfiguration): void
  /** Forgets what is at hand, and keeps nothing from now on. */
  drop(): void
}

export function createSenderStock(): SenderStock {
  let kept: { readonly configuration: KeyConfiguration; readonly sender: Promise<PreparedSender> } | undefined
  let closed = false
  const isFor = ({ encoded }: KeyConfiguration): boolean =>
    kept !== undefined && equalBytes(kept.configuration.encoded, encoded)
  return {
    take(configuration) {
      const sender = isFor(configuration) ? kept?.sender : undefined
      kept = undefined
      return sender ?? prepareSender(configuration)
    },
    refill(configuration) {
      if (closed || isFor(configuration)) return
      const sender = prepareSender(configuration)
      const mine = { configuration, sender }
      kept = mine
      sender.catch(() => {
        if (kept === mine) kept = undefined
      })
    },
    drop() {
      closed = true
      kept = undefined
    },
  }
}
