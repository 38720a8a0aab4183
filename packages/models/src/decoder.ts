import { linearSite, type Task } from '@peftjs/core';
import type { Architecture, Network } from './architecture.js';
import { frozenHead, headFor, linearHead, tiedHead, type Features, type Head } from './head.js';

/** What the heads of a decoder are made of. */
interface DecoderHeads {
  /** Width of the hidden states. */
  readonly width: number;
  /** The last token of each row, [B, width]. */
  readonly last: Features;
  /** Every token, [B, S, width]. */
  readonly every: Features;
  /** Where the head for tokens is. */
  readonly ofTokens: string;
  /** The table of words. */
  readonly table: string;
  readonly words: number;
  /** Whether the table is the head of the language model too; else that is the module `lm_head`. */
  readonly tied: boolean;
}

const LANGUAGE_MODEL_HEAD = 'lm_head';

/**
 * A decoder with the head of transformers for a task: `score` on the last token of a text, one for each of its tokens, or the
 * frozen one of the language model.
 */
export function decoder(network: Network, heads: DecoderHeads, task: Task): Architecture {
  const { width, last, every, ofTokens } = heads;
  const make: Record<Task, () => Architecture> = {
    'sequence-classification': () => ({
      ...network,
      head: linearHead({ path: 'score', hasBias: false }, width, last),
    }),
    'token-classification': () => ({ ...network, head: linearHead({ path: ofTokens }, width, every) }),
    'causal-lm': () => languageModel(network, heads),
  };
  return headFor(network.name, make, task)();
}

/** A tied table enters the step whole: its rows are not looked up on the host then. */
function languageModel(network: Network, { width, every, table, words, tied }: DecoderHeads): Architecture {
  if (tied) return { ...network, lookups: [], tied: [table], head: tiedHead({ table, words }, every) };
  const site = { ...linearSite(LANGUAGE_MODEL_HEAD, width, words, { role: 'head' }), hasBias: false };
  const head: Head = frozenHead(LANGUAGE_MODEL_HEAD, words, every);
  return { ...network, sites: [...network.sites, site], head };
}
