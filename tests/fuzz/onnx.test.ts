import { expect, it } from 'vitest';
import { outcomeOf } from './onnx.js';

it('400 mutated ONNX files are each computed or refused', async () => {
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 400; seed++) outcomes.add(await outcomeOf(seed));
  expect([...outcomes].sort()).toEqual(['read', 'refused']);
});
