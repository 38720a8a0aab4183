import { describe, expect, it } from 'vitest';
import { createRng } from './rng.js';

describe('createRng', () => {
  it('repeats for the same seed and differs for others', () => {
    const draw = (seed: number): number[] => Array.from({ length: 5 }, createRng(seed).uniform);
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
  });

  it('draws normals of mean 0 and variance 1', () => {
    const rng = createRng(3);
    const values = Array.from({ length: 20_000 }, () => rng.normal());
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 1)).toBeLessThan(0.05);
  });

  it('forks streams that do not depend on what was drawn before', () => {
    const rng = createRng(4);
    const early = rng.fork('a').uniform();
    rng.uniform();
    expect(rng.fork('a').uniform()).toBe(early);
    expect(rng.fork('b').uniform()).not.toBe(early);
  });

  it('forks streams that share no run of numbers, however many there are', () => {
    const rng = createRng(6);
    const [streams, draws] = [16_000, 125]; // with 32 bits of state, seven of their pairs would share a run
    const seen = new Float64Array(streams * draws); // two draws in one number
    for (let stream = 0; stream < streams; stream++) {
      const { uniform } = rng.fork(`layers.${stream}.loraA`);
      let last = uniform();
      for (let draw = 0; draw < draws; draw++) {
        const next = uniform();
        seen[stream * draws + draw] = last * 2 ** 53 + Math.floor(next * 2 ** 21);
        last = next;
      }
    }
    seen.sort();
    const repeated = seen.filter((value, index) => value === seen[index + 1]).length;
    expect(repeated).toBeLessThanOrEqual(1); // by chance, of 2e6 among 2^53
  });

  it('forks different streams for similar labels, seeds and parents', () => {
    const rng = createRng(7);
    const streams = [rng, createRng(8), createRng(7 + 2 ** 32), createRng(-7), rng.fork(''), rng.fork('a'), rng.fork('b'), rng.fork('aa'), rng.fork('a\0'), rng.fork('a').fork('a'), rng.fork('abcd'), rng.fork('abcde')]; // oxfmt-ignore
    const drawn = streams.map((stream) => Array.from({ length: 10_000 }, () => stream.normal()));
    drawn.forEach((a, first) => {
      drawn.slice(0, first).forEach((b) => {
        const correlation = a.reduce((sum, value, index) => sum + value * (b[index] as number), 0) / a.length;
        expect(Math.abs(correlation)).toBeLessThan(0.045); // 4.5 standard deviations
      });
    });
  });

  it('draws every sixteenth of an interval equally often', () => {
    for (const rng of [createRng(0), createRng(9).fork('x')]) {
      const counts = new Array<number>(16).fill(0);
      for (let draw = 0; draw < 16_000; draw++) {
        const place = rng.integer(16);
        counts[place] = (counts[place] as number) + 1;
      }
      const squares = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
      expect(squares).toBeLessThan(45); // chi squared of 15 degrees of freedom: one in 10,000
    }
  });

  it('draws the numbers that NUMERICS stands for', () => {
    const rng = createRng(1);
    expect([rng.uniform(), rng.uniform(), rng.fork('a').uniform()]).toEqual([
      0.3912843510042876, 0.0839917166158557, 0.8301862103398889,
    ]);
  });

  it('permutes', () => {
    const order = createRng(5).permutation(100);
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect([...order]).not.toEqual([...order].sort((a, b) => a - b));
  });
});
