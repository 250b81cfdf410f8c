/**
 * Encapsulations made ahead. Encapsulating costs a client most of the time it adds to a first token, and does not depend
 * on what is asked: so when one answer has ended, the encapsulation for the next request is made, and kept, one at a time.
 */
import { type Bytes, equalBytes } from '../verifier/protocol/bytes.js'
import { type PreparedSender, prepareSender } from '../verifier/protocol/ohttp.js'
import { parseKeyConfiguration } from '../verifier/protocol/ohttp-keys.js'

export interface SenderStock {
  /**
   * One for the key of this encoded configuration and no other: the one at hand, which is then gone, or a new one.
   * @throws FormatError or HpkeError on a bad configuration.
   */
  take(configuration: Bytes): Promise<PreparedSender>
  /** Makes one for the next request to this key. Never fails: a key that cannot be used fails when it is. */
  refill(configuration: Bytes): void
  /** Forgets what is at hand, and keeps nothing from now on. */
  drop(): void
}

const prepareFor = async (configuration: Bytes): Promise<PreparedSender> =>
  prepareSender(parseKeyConfiguration(configuration))

/** @param prepare for tests: how one is made. */
export function createSenderStock(prepare: typeof prepareFor = prepareFor): SenderStock {
  let kept: { readonly configuration: Bytes; readonly sender: Promise<PreparedSender> } | undefined
  let closed = false
  const isFor = (configuration: Bytes): boolean => kept !== undefined && equalBytes(kept.configuration, configuration)
  return {
    take(configuration) {
      const sender = isFor(configuration) ? kept?.sender : undefined
      kept = undefined
      return sender ?? prepare(configuration)
    },
    refill(configuration) {
      if (closed || isFor(configuration)) return
      const sender = prepare(configuration)
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
