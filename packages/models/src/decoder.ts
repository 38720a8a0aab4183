import type { Tensor } from '@tensorflow/tfjs-core';
import type { Tensors } from '@peftjs/core/method';
import { linearSite, type Scope, type Task } from '@peftjs/core/model';
import type { InputSpec } from '@peftjs/core/runtime';
import {
  frozenHead,
  headFor,
  linearHead,
  noHead,
  type Architecture,
  type Decoding,
  type Features,
  type Head,
  type Network,
} from './architecture.js';
import { afterPast, cacheNames, cachedPrompt, nextToken, wholeText, type Context } from './context.js';
import { onlyToken, type LastToken } from './reading.js';

/** The parts that a decoder's heads need. */
interface DecoderHeads {
  /** The width of the hidden states. */
  readonly width: number;
  /**
   * Returns the hidden states of every token, [B, S, width], or only those of one token of each row, [B, 1, width]: then
   * the last layer is computed only for it, except for keys and values.
   */
  readonly hidden: (scope: Scope, inputs: Tensors, context: Context, only?: LastToken) => Tensor;
  /** The token that a text classifier does not read: it reads the last other one. Default: the last one of all. */
  readonly padTokenId?: number | undefined;
  /** The number of layers. */
  readonly layers: number;
  /** The number of key and value heads per layer. */
  readonly keyHeads: number;
  /** The width of a head. */
  readonly headDim: number;
  /** The path of the text classification head; null if transformers has none. Default 'score'. */
  readonly ofTexts?: string | null;
  /** The path of the token classification head; null if transformers has none. */
  readonly ofTokens: string | null;
  /** The rate of the dropout before the token classifier. Default: none. */
  readonly tokenDropout?: number | undefined;
  /** The path of the word embedding table. */
  readonly table: string;
  /** The size of the vocabulary. */
  readonly words: number;
  /** Whether the language model head uses the embedding table. If not, it is the module `lm_head`. */
  readonly tied: boolean;
  /** Applied to the language model's logits. Default: identity. */
  readonly finish?: (logits: Tensor) => Tensor;
  /**
   * The text length from which transformers uses other position angles: cached keys and values become invalid, so the
   * text is read again from its start.
   */
  readonly rebuildCacheAt?: number;
}

const LANGUAGE_MODEL_HEAD = 'lm_head';

/**
 * A decoder with the head of transformers for a task: `score` on the last token of a text that is not padding, a
 * classifier on each token, the frozen language model head, or no head and pooled tokens.
 */
export function decoder(body: Omit<Network, 'encode'>, heads: DecoderHeads, task: Task): Architecture {
  const { width, ofTexts = 'score', ofTokens, tokenDropout: dropout } = heads;
  const lastBefore =
    (padTokenId?: number): Features =>
    (scope, inputs) => {
      const context = wholeText(inputs, undefined, padTokenId);
      return onlyToken(heads.hidden(scope, inputs, context, context.last()));
    };
  const every: Features = (scope, inputs) => heads.hidden(scope, inputs, wholeText(inputs));
  const network: Network = { ...body, encode: lastBefore() };
  const make: Partial<Record<Task, () => Architecture>> = {
    ...(ofTexts !== null && {
      'sequence-classification': () => ({
        ...network,
        head: linearHead({ path: ofTexts, hasBias: false }, width, lastBefore(heads.padTokenId)),
      }),
    }),
    ...(ofTokens !== null && {
      'token-classification': () => ({ ...network, head: linearHead({ path: ofTokens, dropout }, width, every) }),
    }),
    'causal-lm': () => languageModel(network, heads, every),
    'feature-extraction': () => ({ ...network, head: noHead(every) }),
  };
  return headFor<() => Architecture>(network.name, make, task)();
}

/** A tied table is a full input of the step, so its rows are not looked up on the host. */
function languageModel(network: Network, heads: DecoderHeads, every: Features): Architecture {
  const { width, table, words, tied, finish = (logits: Tensor): Tensor => logits } = heads;
  const headOn = (features: Features): Head => frozenHead(LANGUAGE_MODEL_HEAD, { words, finish }, features);
  const model = { ...network, head: headOn(every), decoding: decoding(network, heads, headOn) };
  const site = { ...linearSite(LANGUAGE_MODEL_HEAD, width, words, { role: 'head' }), hasBias: false };
  if (tied) return { ...model, lookups: [], tied: [{ site, table }] };
  return { ...model, sites: [...network.sites, site] };
}

function decoding({ maxTokens }: Network, heads: DecoderHeads, headOn: (features: Features) => Head): Decoding {
  const { hidden, layers, keyHeads, headDim, words, rebuildCacheAt } = heads;
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
      const last = hidden(scope, inputs, context, context.last());
      return { logits: onlyToken(logits(scope, inputs, last)), ...cache };
    },
    readToken(scope, inputs, capacity) {
      const cache: Tensors = {};
      const own = hidden(scope, inputs, nextToken(inputs, capacity, cache));
      return { logits: onlyToken(logits(scope, inputs, own)), ...cache };
    },
    withPast: {
      layers,
      keyHeads,
      headDim,
      ...(rebuildCacheAt !== undefined && { maxTokens: rebuildCacheAt - 1 }), // a past cannot be read again
      forward(scope, inputs) {
        const present: Tensors = {};
        const own = hidden(scope, inputs, afterPast(inputs, keyHeads, present, rebuildCacheAt && rebuildCacheAt - 1));
        return { logits: logits(scope, inputs, own), ...present };
      },
    },
  };
}
