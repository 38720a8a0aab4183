import { describe, expect, it } from 'vitest';
import { ConfigError, DataError } from '@peftjs/core/method';
import { failedTrial, syntheticTrial } from '../../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import type { Trial } from '@peftjs/cli/trials';
import { parseAddress, readJob, readOutcome, readProgress } from './contract.js';

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
  it('accepts the jobs of a run', () => {
    expect(readJob('a-1', job)).toEqual(job);
  });

  it('accepts data without a development file, and column names', () => {
    const columns = { kind: 'multi-label', textColumn: 'a', labelColumn: 'b', labelSeparator: '|' };
    const own = { ...job, data: { kind: 'files', train: 'train/a.csv', columns } };
    expect(readJob('a-1', own)).toEqual(own);
  });

  it.each<[string, unknown]>([
    ['nothing', null],
    ['a path that leaves the folder', { ...job, files: [{ path: '../a.tsv', sha256: hash, bytes: 3 }] }],
    ['an absolute path', { ...job, files: [{ path: '/etc/passwd', sha256: hash, bytes: 3 }] }],
    ['a path with a backslash', { ...job, files: [{ path: 'a\\b', sha256: hash, bytes: 3 }] }],
    ['data outside the folder', { ...job, data: { kind: 'files', train: '../../a.tsv', dev: 'dev/b.tsv' } }],
    ['a single file outside the folder', { ...job, data: { kind: 'files', train: '../a.tsv' } }],
    ['columns of an unknown kind', { ...job, data: { ...data, columns: { kind: 'x' } } }],
    ['an id that is a path', { ...job, trial: { ...job.trial, id: '../x' } }],
    ['another trial', { ...job, trial: { ...job.trial, id: 'a-2' } }],
    ['an invalid hash', { ...job, files: [{ path: 'a', sha256: '../../x', bytes: 3 }] }],
    [
      'more data than may go through Redis',
      { ...job, files: ['a', 'b'].map((path) => ({ path, sha256: hash, bytes: 26 * 2 ** 20 })) },
    ],
  ])('refuses %s', (_, content) => {
    expect(() => readJob('a-1', content)).toThrow(DataError);
  });
});

describe('readOutcome', () => {
  const result = syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed: 1 });
  const { id, arm, method, model, task, seed, judgedOn, engine, versions, budget } = result;
  const trial = { id, arm, method, model, task, seed, judgedOn, engine, versions, budget: budget.spec } as Trial;

  it('accepts a result or an error', () => {
    expect(readOutcome(trial, { type: 'done', result })).toEqual({ type: 'done', result });
    const failed = { type: 'failed', error: { code: 'PEFT_TRAINING', message: 'the loss is not finite' } };
    expect(readOutcome(trial, failed)).toEqual(failed);
  });

  it('accepts the names of non-finite numbers in the training curve', () => {
    const [first] = result.history;
    const diverged = { ...result, history: [{ ...first, loss: 'NaN', metrics: { perplexity: 'Infinity' } }] };
    expect(readOutcome(trial, { type: 'done', result: diverged })).toMatchObject({
      result: { history: [{ loss: NaN, metrics: { perplexity: Infinity } }] },
    });
  });

  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['a failure marked as done', { type: 'done', result: failedTrial(result, 'no') }],
    ['a result that breaks its contract', { type: 'done', result: { ...result, metrics: {} } }],
    ['an infinite metric', { type: 'done', result: { ...result, metrics: { accuracy: 'Infinity' } } }],
  ])('refuses %s', (_, value) => {
    expect(() => readOutcome(trial, value)).toThrow(DataError);
  });

  it.each<[string, Partial<DoneTrial>]>([
    ['id', { id: 'other' }],
    ['arm', { arm: 'lora' }],
    ['method', { method: 'lora' }],
    ['model', { model: 'another/model' }],
    ['task', { task: 'trec' }],
    ['seed', { seed: 2 }],
    ['judgedOn', { judgedOn: 'selection' }],
    ['budget', { budget: { ...budget, spec: 'r=8' } }],
    ['engine', { engine: { ...engine, dtype: 'q8' } }],
    ['versions', { versions: { ...versions, node: '99.0.0' } }],
  ])('refuses a result with another %s, and names the field', (field, other) => {
    expect(() => readOutcome(trial, { type: 'done', result: { ...result, ...other } })).toThrow(
      new RegExp(`^a worker's answer is not for this trial: its ${field} is .*, expected .*$`),
    );
  });
});

describe('readProgress', () => {
  const step = { step: 3, totalSteps: 9, epoch: 0.5, epochs: 2, loss: 0.7, storedParameters: 96 };

  it('accepts a step, even if it diverges', () => {
    expect(readProgress(step)).toEqual(step);
    const diverging = { ...step, loss: 'Infinity', metric: { name: 'perplexity', value: 'NaN' } };
    expect(readProgress(diverging)).toEqual({
      ...step,
      loss: Infinity,
      metric: { name: 'perplexity', value: NaN },
    });
  });

  it.each<[string, unknown]>([
    ['the initial progress of a job', 0],
    ['null', null],
    ['a loss that is null', { ...step, loss: null }],
    ['a metric that is null', { ...step, metric: { name: 'perplexity', value: null } }],
    ['text', { ...step, step: '3' }],
  ])('drops %s', (_, value) => {
    expect(readProgress(value)).toBeUndefined();
  });
});
