import * as v from 'valibot';

/** An object that has no fields but these. */
export function closed<const S extends v.ObjectEntries>(entries: S): v.StrictObjectSchema<S, string> {
  return v.strictObject(entries, `known are ${Object.keys(entries).join(', ')}`);
}
