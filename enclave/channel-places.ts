/**
 * Room for requests at a gateway. Those still arriving and those that are whole are counted apart, so that senders who take
 * their time hold up nobody: where too many arrive, the one that began first gives way to the newcomer. One that is whole
 * keeps its place until it is answered.
 */

export interface PlaceLimits {
  /** Requests of which some is still to come. */
  readonly maxArrivingRequests: number
  /** Requests being opened, handled or answered. */
  readonly maxConcurrentRequests: number
}

export interface Place {
  /** The request is whole. False: there is no room for it, and it has no place any more. */
  arrived(): boolean
  /** To be called when it has ended either way; later calls do nothing. */
  leave(): void
}

export interface Places {
  /** A place for a request that begins to arrive; `giveWay` is called when it loses it. Undefined: it could not be answered if it came. */
  enter(giveWay: () => void): Place | undefined
}

export function createPlaces({ maxArrivingRequests, maxConcurrentRequests }: PlaceLimits): Places {
  /** In order of arrival; the values give way. */
  const arriving = new Map<Place, () => void>()
  const whole = new Set<Place>()

  return {
    enter(giveWay) {
      if (whole.size >= maxConcurrentRequests) return undefined
      const [first] = arriving
      if (first !== undefined && arriving.size >= maxArrivingRequests) {
        const [place, push] = first
        arriving.delete(place)
        push()
      }
      const place: Place = {
        arrived() {
          if (!arriving.delete(place) || whole.size >= maxConcurrentRequests) return false
          whole.add(place)
          return true
        },
        leave() {
          arriving.delete(place)
          whole.delete(place)
        },
      }
      arriving.set(place, giveWay)
      return place
    },
  }
}
