import { expect, it } from 'vitest';
import { formats } from './formats.js';

it.each(Object.entries(formats))('400 mutated %s files are each read or refused', async (_, load) => {
  const { outcomeOf } = await load();
  const outcomes = new Set<string>();
  for (let seed = 0; seed < 400; seed++) outcomes.add(await outcomeOf(seed));
  expect([...outcomes].sort()).toEqual(['read', 'refused']);
});
