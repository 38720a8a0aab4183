import * as tf from '@tensorflow/tfjs';
import { ShapeError, type Site } from '@peftjs/core/method';
import { selectSites } from '@peftjs/core/model';
import { eager } from '@peftjs/engine';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  batchOf,
  frozenScope,
  graphOutput,
  packagedGraph,
  packageName,
  relativeDifference,
  valuesOf,
} from './use-lite.js';

/** The node whose output the classifier reads: the mean over the tokens. */
const meanNode = 'module_apply_default/Encoder_en/KonaTransformer/div';

const texts = [
  'x',
  'Hello world',
  'The quick brown fox jumps over the lazy dog.',
  '日本語 mixed with English, at 5:30',
];
const longText = 'A rather long sentence, with many words in it. '.repeat(30);

let model: PretrainedModel;
let graph: tf.GraphModel;
let rows: number[][];

const encoded = (batch: tf.NamedTensorMap) => valuesOf(() => model.encode(frozenScope(model), batch));
const logits = (batch: tf.NamedTensorMap) => valuesOf(() => model.forward(frozenScope(model), batch));

beforeAll(async () => {
  await eager({ backend: 'wasm' });
  await tf.setBackend('wasm'); // a tenth of the time of TensorFlow.js's JavaScript
  [model, graph] = await Promise.all([fromPretrained(packageName, { numLabels: 3 }), packagedGraph()]);
  rows = texts.map((text) => model.tokenizer.encode(text).ids);
});

afterAll(() => tf.setBackend('cpu'));

describe('Universal Sentence Encoder Lite and the packaged graph', () => {
  it.each(texts.map((text, index) => [text.slice(0, 20), index]))('encode "%s" the same', async (_, index) => {
    const row = rows[index] as number[];
    expect(relativeDifference(encoded(batchOf([row])), await graphOutput(graph, [row]))).toBeLessThan(1e-5);
  });

  it('read 128 tokens of a longer text', async () => {
    const longest = model.tokenizer.encode(longText).ids;
    expect(longest).toHaveLength(model.maxTokens);
    const longer = await graphOutput(graph, [[...longest, 42, 43]]);
    expect(relativeDifference(encoded(batchOf([longest])), longer)).toBeLessThan(1e-5);
  });

  it('encode a padded batch the same, with an empty text in it', async () => {
    const batch = [rows[1], [], rows[2], rows[0], rows[3]] as number[][];
    expect(relativeDifference(encoded(batchOf(batch)), await graphOutput(graph, batch))).toBeLessThan(1e-5);
  });

  it('classify the mean over the tokens', async () => {
    const batch = rows.slice(0, 2);
    const mean = await graphOutput(graph, batch, meanNode);
    const expected = valuesOf(() => frozenScope(model).linear('classifier', tf.tensor2d(mean, [batch.length, 512])));
    expect(expected).toHaveLength(2 * 3);
    expect(relativeDifference(logits(batchOf(batch)), expected)).toBeLessThan(1e-5);
  });
});

describe('padding', () => {
  it('changes no output, with any content', () => {
    const batch = rows.slice(0, 2);
    const plain = batchOf(batch);
    const padded = batchOf(batch, 12, 77);
    expect(relativeDifference(logits(padded), logits(plain))).toBeLessThan(1e-6);
    expect(relativeDifference(encoded(padded), encoded(plain))).toBeLessThan(1e-6);
  });

  it('changes no gradient', () => {
    const gradient = (batch: tf.NamedTensorMap) =>
      valuesOf(() => {
        const scope = frozenScope(model);
        const scale = tf.ones([256]);
        return tf.grad((scale) =>
          tf.sum(
            tf.square(
              model.forward({ ...scope, embedding: (path, ids) => tf.mul(scope.embedding(path, ids), scale) }, batch),
            ),
          ),
        )(scale);
      });
    const batch = rows.slice(0, 2);
    expect(relativeDifference(gradient(batchOf(batch, 9, 5)), gradient(batchOf(batch)))).toBeLessThan(1e-5);
  });

  it('gives finite logits for an empty text', () => {
    expect(logits(batchOf([[]])).every(Number.isFinite)).toBe(true);
  });
});

describe('inputs', () => {
  it('with more tokens than the network can read are rejected', () => {
    const long = batchOf([Array<number>(129).fill(7)]);
    expect(() => logits(long)).toThrow(/at most 128 tokens, got 129/);
  });

  it('that are missing are named', () => {
    const { inputIds } = batchOf([[7]]);
    expect(() => logits({ inputIds: inputIds as tf.Tensor })).toThrow(ShapeError);
  });
});

describe('sites', () => {
  it('are the modules of the forward pass', () => {
    const row = ({ path, kind, role, inFeatures, outFeatures }: Site): string =>
      `${path} ${kind} ${role} ${inFeatures}>${outFeatures}`;
    expect(model.sites.map(row)).toEqual([
      'embeddings embedding other 8002>256',
      'encoder.layer.0.residual linear other 256>512',
      'encoder.layer.0.attention.layerNorm layerNorm other 256>256',
      'encoder.layer.0.attention.qkv linear attention.qkv 256>768',
      'encoder.layer.0.attention.output linear attention.output 256>512',
      'encoder.layer.0.ffn.layerNorm layerNorm other 512>512',
      'encoder.layer.0.ffn.in linear ffn.in 512>1536',
      'encoder.layer.0.ffn.out linear ffn.out 1536>512',
      'encoder.layer.1.attention.layerNorm layerNorm other 512>512',
      'encoder.layer.1.attention.qkv linear attention.qkv 512>1536',
      'encoder.layer.1.attention.output linear attention.output 512>512',
      'encoder.layer.1.ffn.layerNorm layerNorm other 512>512',
      'encoder.layer.1.ffn.in linear ffn.in 512>1536',
      'encoder.layer.1.ffn.out linear ffn.out 1536>512',
      'classifier linear head 512>3',
    ]);
    expect(model.sites.filter(({ layer }) => layer === 1)).toHaveLength(6);
  });

  it('are exactly the modules that a forward pass reaches', () => {
    const scope = frozenScope(model);
    const reached = new Set<string>();
    const noting =
      <A extends unknown[], R>(module: (path: string, ...rest: A) => R) =>
      (path: string, ...rest: A): R => {
        reached.add(path);
        return module(path, ...rest);
      };
    valuesOf(() =>
      model.forward(
        {
          ...scope,
          linear: noting(scope.linear),
          embedding: noting(scope.embedding),
          layerNorm: noting(scope.layerNorm),
        },
        batchOf([[7, 8]]),
      ),
    );
    expect([...reached].sort()).toEqual(model.sites.map(({ path }) => path).sort());
  });

  it('have weights of their shape', () => {
    for (const { path, kind, inFeatures, outFeatures, hasBias } of model.sites) {
      const shape = kind === 'layerNorm' ? [outFeatures] : [inFeatures, outFeatures];
      expect(model.weights[`${path}.weight`]?.shape, path).toEqual(shape);
      expect(model.weights[`${path}.bias`]?.shape, path).toEqual(hasBias ? [outFeatures] : undefined);
    }
  });

  it('are by default adapted at the eight matrices of the blocks', () => {
    const config = { targetModules: null, excludeModules: null, layersToTransform: null, modulesToSave: null };
    const { matched, unmatchedNames } = selectSites(model.sites, config, {
      kinds: ['linear'],
      head: model.head,
      defaults: model.defaultTargetModules,
    });
    expect(unmatchedNames).toEqual([]);
    expect(matched.map(({ path }) => path)).toEqual(
      [0, 1].flatMap((layer) =>
        ['attention.qkv', 'attention.output', 'ffn.in', 'ffn.out'].map((name) => `encoder.layer.${layer}.${name}`),
      ),
    );
  });

  it('mark the embedding as looked up on the host', () => {
    expect(model.lookups).toEqual([{ site: 'embeddings', ids: 'inputIds' }]);
  });
});
