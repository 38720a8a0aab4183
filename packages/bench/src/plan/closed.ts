import * as v from 'valibot';
import { didYouMean } from '@peftjs/core';

/** An object that has no fields but these; `parseOptions` completes the message. */
export function closed<const S extends v.ObjectEntries>(
  entries: S,
): v.StrictObjectSchema<S, (issue: v.StrictObjectIssue) => string> {
  const known = Object.keys(entries);
  return v.strictObject(entries, ({ input }) => `${didYouMean(input, known)}; known are ${known.join(', ')}`);
}
