/*
 * A third party's extensions: an optimizer, a loss, a schedule, a kernel, a network with its kinds of folder, and a
 * table format.
 */
import { hostTensor } from '@peftjs/core';
import { DataError, tensorAt, type HostTensors } from '@peftjs/core/method';
import { embeddingSite, linearSite } from '@peftjs/core/model';
import type { Loss, Optimizer, Schedule } from '@peftjs/core/runtime';
import type { KernelTable, Value } from '@peftjs/engine';
import {
  batchInput,
  createTokenizer,
  headFor,
  linearHead,
  positiveInteger,
  tokenMean,
  type CheckpointFormat,
  type Features,
  type ModelType,
  type Network,
  type TokenizerDefinition,
} from '@peftjs/models/architectures';
import type { TableReader, TableRecord } from '@peftjs/tasks';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';

/** signSGD with momentum (Bernstein et al., 2018): m <- mu m + (1 - mu) g, theta <- theta - eta_t sign(m). */
export function signSgd({ momentum = 0.9 } = {}): Optimizer {
  return {
    name: 'sign-sgd',
    settings: { momentum },
    slots: { momentum: { carried: 'gradient' } },
    elementwise: true,
    update({ value, gradient, slots, learningRate }) {
      const next = tf.add(tf.mul(tensorAt(slots, 'momentum'), momentum), tf.mul(gradient, 1 - momentum));
      return { value: tf.sub(value, tf.mul(tf.sign(next), learningRate)), slots: { momentum: next } };
    },
  };
}

/**
 * The focal loss (Lin et al., 2017), -(1 - p)^gamma log p of the label's probability p, averaged over the rows with
 * weight.
 */
export function focalLoss({ gamma = 2 } = {}): Loss {
  return {
    name: 'focal',
    settings: { gamma },
    labels: 'classification',
    loss(logits, { labels, rowWeights }) {
      const chosen = tf.oneHot(labels, logits.shape[1] as number);
      const logProbability = tf.sum(tf.mul(tf.logSoftmax(logits), chosen), 1); // [batch]
      const unsure = tf.pow(tf.sub(1, tf.exp(logProbability)), tf.scalar(gamma));
      const losses = tf.neg(tf.mul(unsure, logProbability));
      return tf.div(tf.sum(tf.mul(losses, rowWeights)), tf.maximum(tf.sum(rowWeights), 1e-12));
    },
  };
}

/** Halves the rate after each part of the run: 1, 1/2, 1/4, .. */
export function halving({ parts = 3 } = {}): Schedule {
  return { name: 'halving', settings: { parts }, decay: (progress) => 0.5 ** Math.floor(progress * parts) };
}

const SOFTSIGN = 'TheirSoftsign';

tf.registerKernel({
  kernelName: SOFTSIGN,
  backendName: 'cpu',
  kernelFunc({ inputs, backend }) {
    const { x } = inputs as Record<'x', tf.TensorInfo>;
    const cpu = backend as unknown as {
      readonly data: { get(id: object): { readonly values: Float32Array } };
      makeTensorInfo(shape: number[], dtype: 'float32', values: Float32Array): tf.TensorInfo;
    };
    const values = cpu.data.get(x.dataId).values.map((value) => value / (1 + Math.abs(value)));
    return cpu.makeTensorInfo(x.shape, 'float32', values);
  },
});
tf.registerGradient({
  kernelName: SOFTSIGN,
  inputsToSave: ['x'],
  gradFunc: (dy, [x]) => ({ x: () => tf.div(dy as Tensor, tf.square(tf.add(1, tf.abs(x as Tensor)))) }),
});

/** x / (1 + |x|) as one kernel. */
function softsign(x: Tensor): Tensor {
  return tf.engine().runKernel(SOFTSIGN, { x });
}

/** The same kernel in a compiled graph. */
export const kernels: KernelTable = {
  [SOFTSIGN]: (g, { x }: { readonly x: Value }) => g.map('Softsign', x),
};

/** y = C softsign(mean_t e(t) W + b) + c. */
function softBag(words: number, width: number): Network & { readonly features: Features } {
  const features: Features = (scope, inputs) => {
    const embedded = scope.embedding('bag.words', batchInput(inputs, 'inputIds')); // [batch, tokens, width]
    return softsign(scope.linear('bag.mix', tokenMean(embedded, batchInput(inputs, 'attentionMask')))); // [batch, width]
  };
  return {
    name: 'soft-bag',
    maxTokens: 8,
    sites: [embeddingSite('bag.words', words, width), linearSite('bag.mix', width, width, { layer: 0 })],
    encodeOnly: [],
    defaultTargetModules: ['mix'],
    lookups: [{ site: 'bag.words', ids: 'inputIds' }],
    encode: features,
    features,
  };
}

/** Opens transformers folders. */
export const softBagType: ModelType = {
  name: 'soft-bag',
  savedBy: 'SoftBagModel',
  prefix: 'bag.',
  architecture(config, task) {
    const width = positiveInteger(config, 'width');
    const { features, ...network } = softBag(positiveInteger(config, 'vocab_size'), width);
    const heads = { 'sequence-classification': linearHead({ path: 'classifier' }, width, features) };
    return { ...network, head: headFor('soft-bag', heads, task) };
  },
};

/** The vocabulary: words and their ids. */
export const vocabulary: TokenizerDefinition = {
  version: '1.0',
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: 'Whitespace' },
  post_processor: null,
  decoder: null,
  model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1, c: 2, d: 3 } },
};

/** Opens folders with one file, soft-bag.json: `words` [words, width], `mix` [in, out] and `bias`, row-major. */
export const softBagFormat: CheckpointFormat = {
  name: 'a soft bag in one file',
  marker: 'soft-bag.json',
  async read(folder) {
    const held = (await folder.json('soft-bag.json', 10_000)) as Record<'words' | 'mix' | 'bias', number[]>;
    const width = held.bias.length;
    const words = held.words.length / width;
    const matrix = (values: number[], shape: number[]) => hostTensor(Float32Array.from(values), shape);
    const weights: HostTensors = {
      'bag.words.weight': matrix(held.words, [words, width]),
      'bag.mix.weight': matrix(held.mix, [width, width]),
      'bag.mix.bias': matrix(held.bias, [width]),
    };
    const { features, ...network } = softBag(words, width);
    return {
      architecture: { ...network, head: linearHead({ path: 'classifier' }, width, features) },
      weights,
      tokenizer: await createTokenizer(vocabulary, { maxTokens: 8, vocabularySize: words, file: 'soft-bag.json' }),
      head: {},
    };
  },
};

/** Reads a row per line, `label: text`. */
export const colonReader: TableReader = {
  name: 'lines of label: text',
  maxBytes: 10_000,
  recognises: (path) => path.endsWith('.colon'),
  read(bytes, path) {
    const lines = new TextDecoder().decode(bytes).trim().split('\n');
    const records = lines.map((content, index): TableRecord => {
      const [, label, text] = /^(\w+): (.*)$/.exec(content) ?? [];
      if (!label || !text) throw new DataError(`${path}:${index + 1}: expected label: text`, path);
      return { line: index + 1, cells: new Map(Object.entries({ label, text })) };
    });
    return { columns: ['text', 'label'], line: 0, records };
  },
};
