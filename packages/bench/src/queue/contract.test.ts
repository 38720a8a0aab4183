import { describe, expect, it } from 'vitest';
import { ConfigError, DataError } from '@peftjs/core';
import { failedTrial, syntheticTrial } from '../../test/synthetic-results.js';
import { parseAddress } from './address.js';
import { readJob, readOutcome } from './contract.js';

describe('parseAddress', () => {
  it.each([
    ['redis://localhost', 'redis://localhost:6379'],
    ['redis://10.0.0.7:6380/2', 'redis://10.0.0.7:6380/2'],
    ['redis://:secret@cache:6379', 'redis://cache:6379'],
    ['rediss://user:secret@cache.example/1', 'rediss://cache.example:6379/1'],
    ['redis://[::1]:6379', 'redis://[::1]:6379'],
  ])('shows %s as %s', (url, shown) => {
    expect(parseAddress(url)).toEqual({ url, shown });
  });

  it.each([
    '',
    'localhost:6379',
    'http://localhost',
    'redis://',
    'redis://h/two',
    'redis://h:6379?x=1',
    'redis://h:99999',
  ])('refuses %j', (url) => {
    expect(() => parseAddress(url)).toThrow(ConfigError);
  });

  it.each(['http://:secret@host', 'user:secret@host:6379', 'redis://:sec@ret@host/x'])(
    'does not repeat the password of %s',
    (text) => {
      expect(() => parseAddress(text)).toThrow(/^--queue is '([a-z]+:\/\/)?…@host(:6379|\/x)?'; expected redis:/);
    },
  );
});

const hash = 'a'.repeat(64);
const data = { kind: 'files', train: 'train/a.tsv', dev: 'dev/b.tsv' };
const job = {
  trial: { id: 'a-1', method: 'any', model: 'some/model', task: 'a', data },
  model: 'some/model',
  data,
  files: [{ path: 'train/a.tsv', sha256: hash, bytes: 3 }],
};

describe('readJob', () => {
  it('takes what a run asks', () => {
    expect(readJob('a-1', job)).toEqual(job);
  });

  it.each<[string, unknown]>([
    ['nothing', null],
    ['a path that leaves the folder', { ...job, files: [{ path: '../a.tsv', sha256: hash, bytes: 3 }] }],
    ['an absolute path', { ...job, files: [{ path: '/etc/passwd', sha256: hash, bytes: 3 }] }],
    ['a path of another system', { ...job, files: [{ path: 'a\\b', sha256: hash, bytes: 3 }] }],
    ['data outside of their folder', { ...job, data: { kind: 'files', train: '../../a.tsv', dev: 'dev/b.tsv' } }],
    ['an id that is a path', { ...job, trial: { ...job.trial, id: '../x' } }],
    ['another trial', { ...job, trial: { ...job.trial, id: 'a-2' } }],
    ['a hash that is none', { ...job, files: [{ path: 'a', sha256: '../../x', bytes: 3 }] }],
  ])('refuses %s', (_, content) => {
    expect(() => readJob('a-1', content)).toThrow(DataError);
  });
});

describe('readOutcome', () => {
  const result = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });

  it('takes a result, or why there is none', () => {
    expect(readOutcome(result.id, { type: 'done', result })).toEqual({ type: 'done', result });
    const failed = { type: 'failed', error: { code: 'PEFT_TRAINING', message: 'the loss is not finite' } };
    expect(readOutcome(result.id, failed)).toEqual(failed);
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['the result of another trial', { type: 'done', result: { ...result, id: 'other' } }],
    ['a failure as a result', { type: 'done', result: failedTrial(result, 'no') }],
    ['a result that breaks its contract', { type: 'done', result: { ...result, metrics: {} } }],
  ])('refuses %s', (_, value) => {
    expect(() => readOutcome(result.id, value)).toThrow(DataError);
  });
});
