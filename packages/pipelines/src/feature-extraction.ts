import type { Model } from '@peftjs/core';
import { ConfigError, describe, parseOptions, UnsupportedError } from '@peftjs/core/method';
import { actingParts } from '@peftjs/core/runtime';
import type { Pooling, PoolingMode, PretrainedModel, Prompts } from '@peftjs/models';
import * as v from 'valibot';
import { callOptions } from './call-options.js';
import { embeddings, normalized, pool, type Embeddings } from './embeddings.js';
import { asList, chosenAdapters, encoded, openInference, type CallOptions, type Inference } from './inference.js';

/** How texts are embedded. */
export interface EmbedOptions extends CallOptions {
  /**
   * What an embedding is made of those of the tokens, or 'none', which gives one for each token. Default: the model's own, which a folder
   * of sentence-transformers says; else 'mean'.
   */
  readonly pooling?: 'none' | PoolingMode;
  /** Whether embeddings have length 1. Default: the model's own with its own pooling, else false. */
  readonly normalize?: boolean;
  /** What is put before each text, e.g. `query: `. Default: the prompt of `promptName`. */
  readonly prompt?: string;
  /** One of the model's own prompts. Default: the one that a folder of sentence-transformers says; else none. */
  readonly promptName?: string;
}

/** Embeddings of texts. */
export interface FeatureExtractor {
  /**
   * `[texts, width]`, `[1, width]` for one text; `[texts, tokens, width]` with `pooling: 'none'`, where shorter texts end in zeros.
   */
  (texts: string | readonly string[], options?: EmbedOptions): Promise<Embeddings>;
  /** Gives up what is held of the model, once running calls have ended. */
  dispose(): Promise<void>;
}

const OPTIONS = ['pooling', 'normalize', 'prompt', 'promptName', 'adapter'];

const MODES = ['none', 'mean', 'cls', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const;

const settings = {
  pooling: v.optional(v.picklist(MODES)),
  normalize: v.optional(v.boolean()),
  prompt: v.optional(v.string()),
  promptName: v.optional(v.string()),
};

/** Makes the function that embeds. The embeddings of single tokens are prepared when they are first asked for. */
export function openEmbedding(inference: Inference): {
  readonly embed: (input: unknown, options: unknown) => Promise<Embeddings>;
  readonly release: () => Promise<void>;
} {
  const { model } = actingParts(inference.acting);
  const embedder = model as Model & Partial<Pick<PretrainedModel, 'pooling' | keyof Prompts>>;
  const own: Pooling = embedder.pooling ?? { pooling: 'mean', normalize: false };
  const tokens = openTokens(inference);
  return {
    async embed(input, options) {
      const { adapter, ...given } = callOptions(inference.task, options, OPTIONS);
      const asked = parseOptions(inference.task, settings, given);
      const { pooling = own.pooling } = asked;
      const { normalize = pooling !== 'none' && own.normalize } = asked;
      const { list } = asList(input);
      const choice = chosenAdapters(inference, adapter, list.length);
      const texts = encoded(inference, list, { prompt: promptOf(embedder, asked) });
      if (texts.length === 0) return embeddings(new Float32Array(), [0, 0]);
      if (pooling === own.pooling && (normalize || !own.normalize)) {
        return finished(await inference.outputs(texts, choice), [], normalize);
      }
      if (own.modules && pooling !== 'none') throw fixedPooling(embedder.name, own.modules);
      const rows = await tokens.outputs(texts, choice);
      const lengths = texts.map(({ ids }) => ids.length);
      const longest = Math.max(...lengths);
      const width = (rows[lengths.indexOf(longest)] as Float32Array).length / longest; // padded to itself alone
      if (pooling === 'none') return finished(filled(rows, lengths, longest, width), [longest], normalize);
      const pooled = rows.map((row, text) => pool(row, lengths[text] as number, width, pooling));
      return finished(pooled, [], normalize);
    },
    async release() {
      await tokens.release();
      await inference.release();
    },
  };
}

/**
 * What is put before texts.
 * @throws ConfigError for a name that the model has no prompt of.
 * @throws UnsupportedError for a model whose prompts are not pooled.
 */
function promptOf(
  { name, prompts = {}, defaultPromptName, includePrompt }: Pick<Model, 'name'> & Prompts,
  asked: { readonly [Option in 'prompt' | 'promptName']?: string | undefined },
): string {
  const { promptName = defaultPromptName } = asked;
  const named = promptName === undefined ? '' : new Map(Object.entries(prompts)).get(promptName);
  const prompt = asked.prompt ?? named;
  if (prompt === undefined) {
    const known = Object.keys(prompts).join(', ') || 'none';
    throw new ConfigError(`option 'promptName' is ${describe(promptName)}; '${name}' has ${known}`, 'promptName');
  }
  if (prompt === '' || includePrompt !== false) return prompt;
  throw new UnsupportedError(
    `'${name}' leaves the tokens of prompts out of its embeddings, which is not supported: embed without one, prompt: ''`,
    'prompt',
  );
}

function fixedPooling(name: string, modules: NonNullable<Pooling['modules']>): UnsupportedError {
  const kinds = modules.map(({ kind }) => kind).join(', ');
  return new UnsupportedError(
    `'${name}' has modules after its pooling (${kinds}): leave 'pooling' and 'normalize' out, or ask for pooling 'none'`,
    'pooling',
  );
}

/** The outputs of a model for each token in the place of those for each text. */
function openTokens(inference: Inference): Pick<Inference, 'outputs' | 'release'> {
  const { acting } = inference;
  let network: Model | undefined;
  let held: Inference | undefined;
  return {
    async outputs(texts, choice) {
      network ??= withTokens('adapters' in acting ? acting.model : acting);
      held ??= openInference({ ...inference, acting: network });
      held.model(undefined); // stays prepared from call to call
      const now = openInference({
        ...inference,
        acting: 'adapters' in acting ? { ...acting, model: network } : network,
      });
      try {
        return await now.outputs(texts, choice);
      } finally {
        await now.release();
      }
    },
    release: async () => held?.release(),
  };
}

/** The tokens of each text, filled up with zeros to the longest. */
function filled(
  rows: readonly Float32Array[],
  lengths: readonly number[],
  longest: number,
  width: number,
): Float32Array[] {
  return rows.map((row, text) => {
    const all = new Float32Array(longest * width);
    all.set(row.subarray(0, (lengths[text] as number) * width));
    return all;
  });
}

/** Embeddings of rows that have these axes before the last one. */
function finished(rows: readonly Float32Array[], axes: readonly number[], isNormal: boolean): Embeddings {
  const size = (rows[0] as Float32Array).length;
  const width = axes.reduce((rest, axis) => rest / axis, size);
  const data = new Float32Array(rows.length * size);
  rows.forEach((row, place) => {
    data.set(row, place * size);
  });
  return embeddings(isNormal ? normalized(data, width) : data, [rows.length, ...axes, width]);
}

/** The model with the embeddings of tokens as its outputs. @throws UnsupportedError where it does not tell them. */
function withTokens(model: Model): Model {
  if (model.tokenEmbeddings) return { ...model, forward: model.tokenEmbeddings };
  throw new UnsupportedError(
    `'${model.name}' gives embeddings of texts alone: leave 'pooling' and 'normalize' out`,
    'pooling',
  );
}
