import { parseOptions } from '@peftjs/core/method';
import { anything } from '@peftjs/core/model';
import type * as v from 'valibot';

/** The options of a call: those of `entries`, and the adapters. */
type Given<S extends v.ObjectEntries> = v.InferOutput<
  v.ObjectSchema<S & { readonly adapter: typeof anything }, undefined>
>;

/**
 * Parses the options of a call. The names of transformers.js also work: `top_k` is `topK`.
 * @throws ConfigError for an unknown option, suggesting the nearest known one, and for an impossible one.
 */
export function callOptions<const S extends v.ObjectEntries>(
  owner: string,
  entries: S,
  options: unknown = {},
): Given<S> {
  const all = { ...entries, adapter: anything };
  const isRecord = typeof options === 'object' && options !== null && !Array.isArray(options);
  const renamed: unknown = isRecord
    ? Object.fromEntries(Object.entries(options).map(([name, value]) => [inCamelCase(name, Object.keys(all)), value]))
    : options;
  return parseOptions(owner, all, renamed);
}

function inCamelCase(name: string, known: readonly string[]): string {
  const camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return known.includes(camel) ? camel : name;
}
