import { describe, expect, it } from 'vitest';
import { ConfigError } from '@peftjs/core/method';
import { numericVersions, parseShard, shardOf } from './trials.js';

describe('a shard', () => {
  it.each([1, 2, 3, 7])('of %i shares is disjoint from the others, and all together are complete', (of) => {
    const trials = Array.from({ length: 5 }, (_, index) => index);
    const shares = Array.from({ length: of }, (_, index) => shardOf(trials, parseShard(`${index}/${of}`)));
    expect(shares.flat().sort()).toEqual(trials);
  });

  it.each(['', '1', '4/4', '-1/2', '1/0', '0.5/2', '1/2/3', '1 / 2'])('cannot be %j', (text) => {
    expect(() => parseShard(text)).toThrow(ConfigError);
  });
});

it('names the versions as results always did, so that ids stay and finished trials do not run again', async () => {
  const own = ['core', 'models', 'tasks', 'engine'].map((name) => `@peftjs/${name}`);
  const names = ['numerics', 'node', ...own, '@tensorflow/tfjs', 'onnxruntime-node'];
  expect(Object.keys(await numericVersions())).toEqual(names);
});
