/** RFC 3339 as people type it: a date, or a date and a time with its zone. Undefined on anything else. */
export function readInstant(text: string): Date | undefined {
  const shape = /^\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2}))?$/
  const instant = new Date(text)
  return shape.test(text) && !Number.isNaN(instant.getTime()) ? instant : undefined
}
