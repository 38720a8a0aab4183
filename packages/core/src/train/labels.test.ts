import { describe, expect, it } from 'vitest';
import type { Batch, Model, DataKind } from '../contracts/model.js';
import { toyModel, toyTrainingData } from '@peftjs/conformance';
import { hostIntegers, hostTensor, type HostTensor } from '../tensors.js';
import { assertLabels } from './labels.js';

const model = toyModel(); // three classes
const regressor: Model = { ...model, outputs: 1 };
const tagger: Model = { ...model, task: 'token-classification' };
const writer: Model = { ...model, outputs: 24, task: 'causal-lm' };

function batchOf(labels: HostTensor, rowWeights = [1, 1], mask?: number[]): Batch {
  const attentionMask = mask && hostTensor(Float32Array.from(mask), labels.shape);
  return {
    inputs: attentionMask ? { attentionMask } : {},
    labels,
    rowWeights: hostTensor(Float32Array.from(rowWeights), [2]),
    rows: [40, 41],
  };
}
const classes = (...labels: number[]): HostTensor => hostIntegers(Int32Array.from(labels), [2]);
const targets = (...labels: number[]): HostTensor => hostTensor(Float32Array.from(labels), [2]);
const tags = (...labels: number[]): HostTensor => hostIntegers(Int32Array.from(labels), [2, 2]);

describe('assertLabels', () => {
  it.each<[string, DataKind | undefined, Model, Batch]>([
    ['classes', 'classification', model, batchOf(classes(0, 2))],
    ['whole numbers in float32 as classes', 'classification', model, batchOf(targets(0, 2))],
    ['finite targets', 'regression', regressor, batchOf(targets(-3.5, 1e9))],
    ['tags and -100', 'token-classification', tagger, batchOf(tags(0, -100, 2, 1))],
    ['words', 'causal-lm', writer, batchOf(tags(23, -100, 0, 1))],
    ['any label of a row that only fills the batch', 'classification', model, batchOf(classes(2, 9), [1, 0])],
    ['any label of padding', 'token-classification', tagger, batchOf(tags(0, 9, 1, 1), [1, 1], [1, 0, 1, 1])],
    [
      'any class for a model with an unknown number of outputs',
      'classification',
      { ...model, sites: [] },
      batchOf(classes(0, 99)),
    ],
  ])('accepts %s', (_, objective, of, batch) => {
    expect(() => {
      assertLabels(of, [batch], objective);
    }).not.toThrow();
  });

  it.each<[string, DataKind | undefined, Model, Batch, RegExp]>([
    [
      'a class beyond the head',
      'classification',
      model,
      batchOf(classes(0, 3)),
      /row 41 is 3; expected an integer from 0 to 2: the model has 3 outputs$/,
    ],
    ['a negative class', 'classification', model, batchOf(classes(-1, 0)), /row 40 is -1/],
    ['-100 for a row', 'classification', model, batchOf(classes(-100, 0)), /row 40 is -100/],
    ['half a class', 'classification', model, batchOf(targets(0.5, 0)), /row 40 is 0\.5/],
    [
      'a tag beyond the head',
      'token-classification',
      tagger,
      batchOf(tags(0, 1, 2, 3)),
      /row 41, token 1 is 3; .*, or -100 for none/,
    ],
    ['another negative tag', 'token-classification', tagger, batchOf(tags(0, -1, 2, 1)), /row 40, token 1 is -1/],
    ['a word beyond the vocabulary', 'causal-lm', writer, batchOf(tags(24, 0, 0, 0)), /24; .* 24 outputs/],
    [
      'a target that is NaN',
      'regression',
      regressor,
      batchOf(targets(1, NaN)),
      /row 41 is NaN; expected a finite number/,
    ],
    ['an infinite target', undefined, model, batchOf(targets(Infinity, 1)), /row 40 is Infinity/],
    ['a class beyond the head, without an objective', undefined, model, batchOf(classes(3, 0)), /row 40 is 3/],
  ])('rejects %s', (_, objective, of, batch, message) => {
    expect(() => {
      assertLabels(of, [batch], objective);
    }).toThrow(
      expect.objectContaining({ code: 'PEFT_DATA', path: 'labels', message: expect.stringMatching(message) as string }),
    );
  });

  it.each<[DataKind | undefined, Model, Batch]>([
    ['classification', tagger, batchOf(classes(0, 1))],
    ['token-classification', model, batchOf(tags(0, 1, 2, 1))],
    [undefined, { ...model, task: 'feature-extraction' }, batchOf(tags(0, 1, 2, 1))],
  ])('rejects %s data for a model of another task', (kind, of, batch) => {
    expect(() => {
      assertLabels(of, [batch], kind);
    }).toThrow(/was loaded for .*: load it for another task/);
  });

  it('rejects regression on a head with several outputs', () => {
    expect(() => {
      assertLabels(model, toyTrainingData().epoch(0), 'regression');
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'labels' }));
  });
});
