import { UnsupportedError } from '@peftjs/core/method';
import type { Encoding } from '@peftjs/models';
import * as v from 'valibot';
import { callOptions } from './call-options.js';
import {
  entitiesOf,
  type AggregationStrategy,
  type EntityGroup,
  type ScoredToken,
  type TokenEntity,
} from './entities.js';
import { answers, asList, type CallOptions, type Inference } from './inference.js';
import { scoresOf } from './scores.js';

/** Options of a token-classification call. */
export interface TagOptions extends CallOptions {
  /** How tokens are combined into entities. Default 'none'. */
  readonly aggregationStrategy?: AggregationStrategy;
  /** The labels or entity groups to omit. Default `['O']`. */
  readonly ignoreLabels?: readonly string[];
}

/** The result for a text: tokens, or entities if tokens are combined. */
type Found<O extends TagOptions> = O extends { readonly aggregationStrategy: infer S }
  ? S extends 'none'
    ? TokenEntity[]
    : AggregationStrategy extends S
      ? TokenEntity[] | EntityGroup[]
      : EntityGroup[]
  : 'aggregationStrategy' extends keyof O
    ? TokenEntity[] | EntityGroup[]
    : TokenEntity[];

/** The default options. */
type Single = { readonly aggregationStrategy: 'none' };

/** Finds entities in texts. */
export interface TokenClassifier {
  /** Returns the tokens or entities of a text, in its order. */
  <const O extends TagOptions = Single>(text: string, options?: O): Promise<Found<O>>;
  /** Returns the tokens or entities of each text. */
  <const O extends TagOptions = Single>(texts: readonly string[], options?: O): Promise<Found<O>[]>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}

const settings = {
  aggregationStrategy: v.optional(
    v.picklist(['none', 'simple', 'first', 'average', 'max', 'words'] satisfies AggregationStrategy[]),
    'none',
  ),
  ignoreLabels: v.optional(v.array(v.string()), ['O']),
};

/** Tags one text or several. */
export async function tag(inference: Inference, input: unknown, options: unknown): Promise<unknown> {
  const { adapter, aggregationStrategy, ignoreLabels } = callOptions(inference.task, settings, options);
  const { list, isOne } = asList(input);
  const { texts, found } = await answers(inference, list, adapter, {
    spans: true,
    areWords: aggregationStrategy === 'words',
  });
  const results = found.map(({ outputs, meaning: { labels } }, index) => {
    const tokens = scored(texts[index] as Encoding, outputs, labels.length);
    const entities = entitiesOf(tokens, aggregationStrategy, { labels, join: inference.tokenizer.join });
    return entities.filter((one) => !ignoreLabels.includes('entity' in one ? one.entity : one.entity_group));
  });
  return isOne ? results[0] : results;
}

/** Returns the tokens of a text with their scores, without special tokens. */
function scored({ spans }: Encoding, outputs: Float32Array, labels: number): ScoredToken[] {
  if (!spans) throw new UnsupportedError('the tokenizer does not return the spans of its tokens', 'tokenizer');
  return spans.flatMap((span, index) =>
    span ? [{ index, span, scores: scoresOf(outputs.subarray(index * labels, (index + 1) * labels), 'softmax') }] : [],
  );
}
