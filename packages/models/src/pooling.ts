/**
 * Embeddings of texts from those of their tokens, as sentence-transformers makes them (Reimers and Gurevych, 2019):
 *
 *   mean   the mean over a text's tokens
 *   cls    its first token
 *
 * and, where they are normalised, v / max(|v|, 1e-12).
 */
import { ConfigError, type Scope, type Tensors } from '@peftjs/core/method';
import { l2Normalize } from '@peftjs/core/nn';
import { batchInput, type Features } from './architecture.js';
import { shown } from './json.js';
import { firstToken, onlyToken, tokenMean } from './reading.js';

/** What an embedding of a text is made of its tokens': their mean, or the first one. */
export type PoolingMode = 'mean' | 'cls';

/** How tokens become one embedding. */
export interface Pooling {
  readonly pooling: PoolingMode;
  /** Whether embeddings have length 1. */
  readonly normalize: boolean;
}

const MODES: readonly unknown[] = ['mean', 'cls'] satisfies PoolingMode[];

/** What is asked for laid over what a model's folder says; without either the mean, as it is. @throws ConfigError for an unknown one. */
export function poolingOf(asked: Partial<Record<keyof Pooling, unknown>>, own: Partial<Pooling> = {}): Pooling {
  const { pooling = own.pooling ?? 'mean', normalize = own.normalize ?? false } = asked;
  if (!MODES.includes(pooling)) {
    throw new ConfigError(`option 'pooling' is ${shown(pooling)}; expected one of ${MODES.join(', ')}`, 'pooling');
  }
  if (typeof normalize !== 'boolean') {
    throw new ConfigError(`option 'normalize' is ${shown(normalize)}; expected true or false`, 'normalize');
  }
  return { pooling: pooling as PoolingMode, normalize };
}

/** Pools tokens [batch, tokens, width], by `attentionMask`, to [batch, width]. */
export function pooled(tokens: Features, { pooling, normalize }: Pooling): Features {
  return (scope: Scope, inputs: Tensors) => {
    const x = tokens(scope, inputs);
    const text = pooling === 'cls' ? onlyToken(firstToken(x)) : tokenMean(x, batchInput(inputs, 'attentionMask'));
    return normalize ? l2Normalize(text) : text;
  };
}
