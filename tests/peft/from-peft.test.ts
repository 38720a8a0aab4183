import { loadPretrained, mergeAndUnload, onWarning } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { beforeEach, describe, expect, it } from 'vitest';
import { fixtures, logitsOf, methods, model, readJson, TOLERANCE } from './bert.js';

/** Written by tools/golden/from_peft.py. */
const expected = readJson('from-peft/expected.json') as { base: number[][]; logits: Record<string, number[][]> };

it('has the logits of transformers without an adapter', async () => {
  expect(relativeDistance(await logitsOf(model), expected.base.flat())).toBeLessThan(TOLERANCE);
});

describe.each(Object.entries(expected.logits))('%s, written by PEFT', (name, logits) => {
  const load = () => loadPretrained(model, `${fixtures}/from-peft/${name}`, { methods });
  const warnings: string[] = [];
  beforeEach(() => {
    warnings.length = 0;
    return onWarning((message) => warnings.push(message));
  });

  it('has the same logits as in PEFT, and no unknown tensor or option', async () => {
    const peft = await load();
    expect(relativeDistance(await logitsOf(peft), logits.flat())).toBeLessThan(TOLERANCE);
    expect(warnings).toEqual([]);
  });

  it('has the same logits merged', async () => {
    expect(relativeDistance(await logitsOf(mergeAndUnload(await load())), logits.flat())).toBeLessThan(TOLERANCE);
  });
});
