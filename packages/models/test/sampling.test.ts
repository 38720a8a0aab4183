import { readFileSync } from 'node:fs';
import { createRng, EngineError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import {
  applyRepetitionPenalty,
  argMax,
  candidates,
  sampleToken,
  withoutRepeats,
  type Sampling,
} from '../src/generation/next-token.js';

type Settings = Partial<Sampling> & Readonly<Partial<Record<'repetitionPenalty' | 'noRepeatNgramSize', number>>>;

/** Generated with transformers by tools/golden/generation.py. */
const { logits, seen, cases } = JSON.parse(
  readFileSync(new URL('fixtures/sampling.json', import.meta.url), 'utf8'),
) as { logits: number[]; seen: number[]; cases: { settings: Settings; probabilities: number[] }[] };

const everything = { temperature: 1, topK: 0, topP: 1, minP: 0 };

function probabilities({ repetitionPenalty = 1, noRepeatNgramSize = 0, ...sampling }: Settings): number[] {
  const penalised = applyRepetitionPenalty(Float32Array.from(logits), seen, repetitionPenalty);
  const scores = withoutRepeats(penalised, seen, noRepeatNgramSize);
  const own = Array.from(logits, () => 0);
  for (const { id, probability } of candidates(scores, { ...everything, ...sampling })) own[id] = probability;
  return own;
}

describe('the probabilities of the next token', () => {
  it.each(cases)('match transformers: $settings', ({ settings, probabilities: expected }) => {
    probabilities(settings).forEach((probability, id) => {
      expect(probability).toBeCloseTo(expected[id] as number, 6);
      expect(probability > 0).toBe((expected[id] as number) > 0);
    });
  });

  it('are sorted in descending order, then by ID', () => {
    const all = candidates(Float32Array.of(0, 2, 1, 2), everything);
    expect(all.map(({ id }) => id)).toEqual([1, 3, 2, 0]);
  });

  it('include all tokens as likely as the k-th', () => {
    const kept = candidates(Float32Array.of(0, 2, 1, 1), { ...everything, topK: 2 });
    expect(kept.map(({ id }) => id)).toEqual([1, 2, 3]);
  });

  it('do not change the given logits', () => {
    const given = Float32Array.from(logits);
    expect(applyRepetitionPenalty(given, seen, 2)).not.toEqual(given);
    expect(withoutRepeats(given, seen, 2)).not.toEqual(given);
    expect(given).toEqual(Float32Array.from(logits));
  });
});

it('draws tokens in proportion to their probabilities', () => {
  const from = candidates(Float32Array.of(Math.log(0.5), Math.log(0.2), Math.log(0.3)), everything);
  const rng = createRng(1);
  const counts = [0, 0, 0];
  for (let draw = 0; draw < 20_000; draw++) {
    const id = sampleToken(from, rng);
    counts[id] = (counts[id] as number) + 1;
  }
  [0.5, 0.2, 0.3].forEach((share, id) => {
    expect(Math.abs((counts[id] as number) / 20_000 - share)).toBeLessThan(0.015); // four standard deviations
  });
});

it('chooses the first of the largest logits, and rejects NaN and infinite ones', () => {
  expect(argMax(Float32Array.of(1, 3, 3, -Infinity))).toBe(1);
  expect(() => argMax(Float32Array.of(1, NaN, 5))).toThrow(EngineError);
  expect(() => argMax(Float32Array.of(1, NaN, 5))).toThrow('the logit of token 1 is NaN');
  expect(() => argMax(Float32Array.of(-Infinity, -Infinity))).toThrow(EngineError);
});
