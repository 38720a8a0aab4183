import { assertKnownOptions } from '@peftjs/core/method';

/**
 * Returns the options of a call in camel case. The names of transformers.js also work: `top_k` is `topK`.
 * @throws ConfigError for an unknown option, suggesting the nearest known one.
 */
export function callOptions(owner: string, options: unknown, known: readonly string[]): Record<string, unknown> {
  if (options === undefined) return {};
  const isRecord = typeof options === 'object' && options !== null && !Array.isArray(options);
  const renamed: unknown = isRecord
    ? Object.fromEntries(Object.entries(options).map(([name, value]) => [inCamelCase(name, known), value]))
    : options;
  assertKnownOptions(owner, renamed, known);
  return renamed as Record<string, unknown>;
}

function inCamelCase(name: string, known: readonly string[]): string {
  const camel = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return known.includes(camel) ? camel : name;
}
