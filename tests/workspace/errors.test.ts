import { expect, it } from 'vitest';
import { filesBelow, isSource, textOf } from './repository.js';

it('docs/reference/errors.md describes each error code of the sources, and no other', () => {
  const sources = filesBelow('packages').filter(isSource).map(textOf);
  // PEFT_BENCH_.. are variables of the environment.
  const raised = sources.flatMap((text) => [...text.matchAll(/'(PEFT_(?!BENCH_)[A-Z_]+)'/g)].map(([, code]) => code));
  const described = [...textOf('docs/reference/errors.md').matchAll(/^## `(PEFT_[A-Z_]+)`$/gm)].map(([, code]) => code);
  expect(described).toEqual([...new Set(raised)].sort());
});
