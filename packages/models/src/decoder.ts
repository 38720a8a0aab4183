/**
 * Decoders as data: words, positions if there is a table of them, layers with causal attention (block.ts), a norm, and
 * the heads of transformers.
 *
 *   x0 = e w + p     w, p: rows of the tables of words and of positions
 *   h  = N(x_L)
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Tensors } from '@peftjs/core/method';
import { embeddingSite, linearSite, type Scope, type Task } from '@peftjs/core/model';
import type { InputSpec } from '@peftjs/core/runtime';
import {
  batchInput,
  frozenHead,
  headFor,
  linearHead,
  noHead,
  type Architecture,
  type Decoding,
  type Dropout,
  type Features,
  type Head,
  type Network,
} from './architecture.js';
import {
  blockDropouts,
  blockSites,
  headDimOf,
  normed,
  normSite,
  runBlocks,
  scaled,
  type Block,
  type BlockPass,
} from './block.js';
import { afterPast, cacheNames, cachedPrompt, nextToken, wholeText, type Context } from './context.js';
import { checkTokens, onlyToken, positionIds, type LastToken } from './reading.js';
import { ropeAngles, rotatedHeads } from './rope.js';
import type { RotaryLayer } from './rotary-config.js';

/** A decoder. */
export interface DecoderConfig extends Pick<Network, 'name' | 'maxTokens' | 'settings' | 'defaultTargetModules'> {
  /** The path of the word embedding table. */
  readonly table: string;
  /** The size of the vocabulary. */
  readonly words: number;
  /** e, the factor of the word embeddings. Default 1. */
  readonly embeddingScale?: number | undefined;
  /** The path of the table of positions, with `maxTokens` rows. Default: none. */
  readonly positions?: string;
  /** The place and the rate of the dropout of x0. Default: none. */
  readonly dropout?: Dropout;
  /** The layers, from the first to the last. */
  readonly layers: readonly DecoderBlock[];
  /** The path of N, which is of the same kind as the norms of the layers. */
  readonly finalNorm: string;
  /** The token that a text classifier does not read: it reads the last other one. Default: the last one of all. */
  readonly padTokenId?: number | undefined;
  /** The path of the text classification head; null if transformers has none. Default 'score'. */
  readonly ofTexts?: string | null;
  /** The path of the token classification head; null if transformers has none. */
  readonly ofTokens: string | null;
  /** The rate of the dropout before the token classifier. Default: none. */
  readonly tokenDropout?: number | undefined;
  /** Whether the language model head uses the embedding table. If not, it is the module `lm_head`. */
  readonly tied: boolean;
  /** Applied to the language model's logits. Default: identity. */
  readonly finish?: (logits: Tensor) => Tensor;
  /**
   * The text length from which transformers uses other position angles: cached keys and values become invalid, so the
   * text is read again from its start. Default: never.
   */
  readonly rebuildCacheAt?: number | undefined;
}

/** A layer of a decoder, with its window and its rotation. */
export type DecoderBlock = Block & RotaryLayer;

const LANGUAGE_MODEL_HEAD = 'lm_head';

/**
 * A decoder with the head of transformers for a task: `score` on the last token of a text that is not padding, a
 * classifier on each token, the frozen language model head, or no head and pooled tokens.
 * @throws UnsupportedError when it has no head for the task.
 */
export function decoder(config: DecoderConfig, task: Task): Architecture {
  const { ofTexts = 'score', ofTokens, tokenDropout: dropout } = config;
  const { width } = firstOf(config);
  const lastBefore =
    (padTokenId?: number): Features =>
    (scope, inputs) => {
      const context = wholeText(inputs, undefined, padTokenId);
      return onlyToken(hiddenStates(config, scope, inputs, context, context.last()));
    };
  const every: Features = (scope, inputs) => hiddenStates(config, scope, inputs, wholeText(inputs));
  const network = { ...body(config), encode: lastBefore() };
  const make: Partial<Record<Task, () => Architecture>> = {
    ...(ofTexts !== null && {
      'sequence-classification': () => ({
        ...network,
        head: linearHead({ path: ofTexts, hasBias: false }, width, lastBefore(config.padTokenId)),
      }),
    }),
    ...(ofTokens !== null && {
      'token-classification': () => ({ ...network, head: linearHead({ path: ofTokens, dropout }, width, every) }),
    }),
    'causal-lm': () => languageModel(network, config, every),
    'feature-extraction': () => ({ ...network, head: noHead(every) }),
  };
  return headFor<() => Architecture>(network.name, make, task)();
}

function body(config: DecoderConfig): Omit<Network, 'encode'> {
  const { name, maxTokens, settings, defaultTargetModules, table, words, positions, layers, dropout } = config;
  const { width, norm } = firstOf(config);
  return {
    name,
    maxTokens,
    ...(settings && { settings }),
    sites: [
      embeddingSite(table, words, width),
      ...(positions === undefined ? [] : [embeddingSite(positions, maxTokens, width)]),
      ...layers.flatMap(blockSites),
      normSite(norm, config.finalNorm, width),
    ],
    encodeOnly: [],
    defaultTargetModules,
    lookups: [{ site: table, ids: 'inputIds' }],
    dropouts: { ...(dropout && Object.fromEntries([dropout])), ...blockDropouts(layers) },
  };
}

/** The layer whose width, norm and heads all others share. */
function firstOf({ layers }: DecoderConfig): DecoderBlock {
  return layers[0] as DecoderBlock;
}

/**
 * Returns the hidden states of every token, [B, S, H], or with `only` those of one token of each row, [B, 1, H]: then
 * the last layer is computed only for it, except for keys and values. inputIds [B, S] int32
 */
function hiddenStates(
  config: DecoderConfig,
  scope: Scope,
  inputs: Tensors,
  context: Context,
  only?: LastToken,
): Tensor {
  const { name, maxTokens, table, positions, layers, embeddingScale, dropout, finalNorm } = config;
  const ids = batchInput(inputs, 'inputIds');
  checkTokens(name, ids, maxTokens);
  const passOf = passesOf(config, context, only);
  const rows = positions === undefined ? undefined : (context.positions ?? positionIds(ids.shape[1] as number));
  const words = scaled(scope.embedding(table, ids), embeddingScale); // [B, S, H]
  const x = rows ? tf.add(words, scope.embedding(positions as string, rows)) : words; // [B, S, H] + [1 or B, S, H]
  const hidden = runBlocks(layers, scope, dropout ? scope.dropout(dropout[0], x) : x, passOf);
  return normed(firstOf(config).norm, scope, finalNorm, hidden);
}

/** Returns how each layer is run. What layers share is computed once. */
function passesOf(config: DecoderConfig, context: Context, only: LastToken | undefined) {
  const { layers, maxTokens } = config;
  const headDim = headDimOf(firstOf(config));
  const ropes = new Set(layers.flatMap(({ rope }) => rope ?? []));
  const windows = new Set(layers.flatMap(({ window }) => window ?? []));
  const angles = new Map(Array.from(ropes, (rope) => [rope, ropeAngles(rope, headDim, context)]));
  const within = new Map(Array.from(windows, (window) => [window, context.within(window)]));
  return ({ layer, rope, window }: DecoderBlock, isLast: boolean): BlockPass => {
    const own = rope && angles.get(rope);
    const { bias, lastBias, hiding } = (window !== undefined && within.get(window)) || context;
    const last = isLast ? only : undefined;
    return {
      read: last?.read,
      options: { maxTokens, ...(last ? { maskBias: lastBias } : { maskBias: bias, ...hiding }) },
      attended: (states) => context.attended(layer, states),
      rotate(states, of) {
        const positions = (of === 'queries' ? last?.positions : undefined) ?? context.positions;
        return own ? rotatedHeads(headDim, states, { ...own, ...(positions && { positions }) }) : states;
      },
    };
  };
}

/** A tied table is a full input of the step, so its rows are not looked up on the host. */
function languageModel(network: Network, config: DecoderConfig, every: Features): Architecture {
  const { table, words, tied, finish = (logits: Tensor): Tensor => logits } = config;
  const headOn = (features: Features): Head => frozenHead(LANGUAGE_MODEL_HEAD, { words, finish }, features);
  const model = { ...network, head: headOn(every), decoding: decoding(config, headOn) };
  const site = { ...linearSite(LANGUAGE_MODEL_HEAD, firstOf(config).width, words, { role: 'head' }), hasBias: false };
  if (tied) return { ...model, lookups: [], tied: [{ site, table }] };
  return { ...model, sites: [...network.sites, site] };
}

function decoding(config: DecoderConfig, headOn: (features: Features) => Head): Decoding {
  const { words, maxTokens, rebuildCacheAt } = config;
  const { heads, keyHeads = heads } = firstOf(config).attention;
  const [layers, headDim] = [config.layers.length, headDimOf(firstOf(config))];
  // [.., width] -> [.., words]
  const logits = (scope: Scope, inputs: Tensors, states: Tensor): Tensor => headOn(() => states).forward(scope, inputs);
  return {
    words,
    maxTokens,
    ...(rebuildCacheAt !== undefined && { rebuildCacheAt }),
    cacheSpecs(batch, capacity) {
      const spec: InputSpec = { dtype: 'float32', shape: [batch, capacity, keyHeads * headDim] };
      const names = Array.from({ length: layers }, (_, layer) => Object.values(cacheNames(layer))).flat();
      return Object.fromEntries(names.map((name) => [name, spec]));
    },
    readPrompt(scope, inputs, capacity) {
      const cache: Tensors = {};
      const context = cachedPrompt(inputs, capacity, cache);
      const last = hiddenStates(config, scope, inputs, context, context.last());
      return { logits: onlyToken(logits(scope, inputs, last)), ...cache };
    },
    readToken(scope, inputs, capacity) {
      const cache: Tensors = {};
      const own = hiddenStates(config, scope, inputs, nextToken(inputs, capacity, cache));
      return { logits: onlyToken(logits(scope, inputs, own)), ...cache };
    },
    withPast: {
      layers,
      keyHeads,
      headDim,
      ...(rebuildCacheAt !== undefined && { maxTokens: rebuildCacheAt - 1 }), // a past cannot be read again
      forward(scope, inputs) {
        const present: Tensors = {};
        const context = afterPast(inputs, keyHeads, present, rebuildCacheAt && rebuildCacheAt - 1);
        const own = hiddenStates(config, scope, inputs, context);
        return { logits: logits(scope, inputs, own), ...present };
      },
    },
  };
}
