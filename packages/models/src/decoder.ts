import type { Tensor } from '@tensorflow/tfjs';
import { linearSite, type Scope, type Task, type Tensors } from '@peftjs/core/method';
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
import { afterPast, keptNames, keptPrompt, nextToken, wholeText, type Context } from './context.js';
import { onlyToken } from './reading.js';

/** Hidden states of a decoder's tokens. */
type Hidden = (scope: Scope, inputs: Tensors, context: Context) => Tensor;

/** What the heads of a decoder are made of. */
interface DecoderHeads {
  /** Width of the hidden states. */
  readonly width: number;
  /** The last token of each row, [B, 1, width]. */
  readonly last: Hidden;
  /** Every token, [B, S, width]. */
  readonly every: Hidden;
  /** How many layers there are. */
  readonly layers: number;
  /** Heads of keys in a layer, and of values. */
  readonly keyHeads: number;
  /** Features of such a head. */
  readonly headDim: number;
  /** Where the head for texts is; null where transformers has none. Default 'score'. */
  readonly ofTexts?: string | null;
  /** Where the head for tokens is; null where transformers has none. */
  readonly ofTokens: string | null;
  /** The table of words. */
  readonly table: string;
  readonly words: number;
  /** Whether the table is the head of the language model too; else that is the module `lm_head`. */
  readonly tied: boolean;
  /** What becomes of the language model's logits in the end. Default: they stay as they are. */
  readonly finish?: (logits: Tensor) => Tensor;
  /**
   * The length at which transformers reads a text that is being written anew, for its angles of positions are others from there on:
   * what was kept of its tokens no longer holds.
   */
  readonly rereadAt?: number;
}

const LANGUAGE_MODEL_HEAD = 'lm_head';

/**
 * A decoder with the head of transformers for a task: `score` on the last token of a text, one for each of its tokens, the frozen one
 * of the language model, or none, whose tokens are pooled.
 */
export function decoder(body: Omit<Network, 'encode'>, heads: DecoderHeads, task: Task): Architecture {
  const { width, ofTexts = 'score', ofTokens } = heads;
  const last: Features = (scope, inputs) => onlyToken(heads.last(scope, inputs, wholeText(inputs)));
  const every: Features = (scope, inputs) => heads.every(scope, inputs, wholeText(inputs));
  const network: Network = { ...body, encode: last };
  const make: Partial<Record<Task, () => Architecture>> = {
    ...(ofTexts !== null && {
      'sequence-classification': () => ({
        ...network,
        head: linearHead({ path: ofTexts, hasBias: false }, width, last),
      }),
    }),
    ...(ofTokens !== null && {
      'token-classification': () => ({ ...network, head: linearHead({ path: ofTokens }, width, every) }),
    }),
    'causal-lm': () => languageModel(network, heads, every),
    'feature-extraction': () => ({ ...network, head: noHead(every) }),
  };
  return headFor<() => Architecture>(network.name, make, task)();
}

/** A tied table enters the step whole: its rows are not looked up on the host then. */
function languageModel(network: Network, heads: DecoderHeads, every: Features): Architecture {
  const { width, table, words, tied, finish = (logits: Tensor): Tensor => logits } = heads;
  const headOn = (features: Features): Head => {
    const head = frozenHead(LANGUAGE_MODEL_HEAD, words, features);
    return { ...head, forward: (scope, inputs) => finish(head.forward(scope, inputs)) };
  };
  const model = { ...network, head: headOn(every), decoding: decoding(network, heads, headOn) };
  const site = { ...linearSite(LANGUAGE_MODEL_HEAD, width, words, { role: 'head' }), hasBias: false };
  if (tied) return { ...model, lookups: [], tied: [{ site, table }] };
  return { ...model, sites: [...network.sites, site] };
}

function decoding({ maxTokens }: Network, heads: DecoderHeads, headOn: (features: Features) => Head): Decoding {
  const { last, every, layers, keyHeads, headDim, words, rereadAt } = heads;
  const logits = (scope: Scope, inputs: Tensors, hidden: Tensor): Tensor => headOn(() => hidden).forward(scope, inputs); // [B, Q, width] -> [B, Q, words]
  return {
    words,
    maxTokens,
    ...(rereadAt !== undefined && { rereadAt }),
    kept(batch, capacity) {
      const spec: InputSpec = { dtype: 'float32', shape: [batch, capacity, keyHeads * headDim] };
      const names = Array.from({ length: layers }, (_, layer) => Object.values(keptNames(layer))).flat();
      return Object.fromEntries(names.map((name) => [name, spec]));
    },
    readPrompt(scope, inputs, capacity) {
      const kept: Tensors = {};
      const hidden = last(scope, inputs, keptPrompt(inputs, capacity, kept));
      return { logits: onlyToken(logits(scope, inputs, hidden)), ...kept };
    },
    readToken(scope, inputs, capacity) {
      const kept: Tensors = {};
      const hidden = every(scope, inputs, nextToken(inputs, capacity, kept));
      return { logits: onlyToken(logits(scope, inputs, hidden)), ...kept };
    },
    withPast: {
      layers,
      keyHeads,
      headDim,
      ...(rereadAt !== undefined && { maxTokens: rereadAt - 1 }), // who goes on from a past does not read it anew
      forward(scope, inputs) {
        const present: Tensors = {};
        const hidden = every(scope, inputs, afterPast(inputs, keyHeads, present, rereadAt && rereadAt - 1));
        return { logits: logits(scope, inputs, hidden), ...present };
      },
    },
  };
}
