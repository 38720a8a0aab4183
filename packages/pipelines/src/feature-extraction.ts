import type { Model } from '@peftjs/core';
import { ConfigError, describe, sizeOf, UnsupportedError } from '@peftjs/core/method';
import { firstNames } from '@peftjs/core/model';
import { activeParts } from '@peftjs/core/runtime';
import type { Pooling, PoolingMode, PretrainedModel, Prompts } from '@peftjs/models';
import { pooled } from '@peftjs/models/architectures';
import * as v from 'valibot';
import { callOptions } from './call-options.js';
import { embeddings, normalized, type Embeddings } from './embeddings.js';
import {
  asList,
  chosenAdapters,
  encoded,
  openInference,
  type Answer,
  type CallOptions,
  type Inference,
  type LoadedModel,
} from './inference.js';

/** Options of a feature-extraction call. */
export interface EmbedOptions extends CallOptions {
  /**
   * How token embeddings are combined, or 'none' to return one embedding per token. Default: the model's own, e.g. that
   * of a sentence-transformers folder, else 'mean'.
   */
  readonly pooling?: 'none' | PoolingMode;
  /** Whether embeddings are scaled to length 1. Default: the model's own setting, but false with pooling 'none'. */
  readonly normalize?: boolean;
  /** Text put before each text, e.g. `query: `. Default: the prompt of `promptName`. */
  readonly prompt?: string;
  /** The name of one of the model's prompts. Default: the one in a sentence-transformers folder, else no prompt. */
  readonly promptName?: string;
}

/** Embeds texts. */
export interface FeatureExtractor {
  /**
   * Returns embeddings `[texts, width]`, or `[1, width]` for one text. With `pooling: 'none'` they are
   * `[texts, tokens, width]`, with zeros after shorter texts.
   */
  (texts: string | readonly string[], options?: EmbedOptions): Promise<Embeddings>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}

const MODES = ['none', 'mean', 'cls', 'max', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const;

/** The names of transformers.js for some of them. */
const ALIASES: ReadonlyMap<unknown, unknown> = new Map([
  ['first_token', 'cls'],
  ['last_token', 'lasttoken'],
  ['eos', 'lasttoken'],
]);

const settings = {
  pooling: v.optional(
    v.pipe(
      v.unknown(),
      v.transform((mode) => ALIASES.get(mode) ?? mode),
      v.picklist(MODES),
    ),
  ),
  normalize: v.optional(v.boolean()),
  prompt: v.optional(v.string()),
  promptName: v.optional(v.string()),
};

/** Returns the function that embeds texts. Another pooling than the model's is prepared on first use. */
export function openEmbedding(inference: Inference): {
  readonly call: (input: unknown, options: unknown) => Promise<Embeddings>;
  readonly release: () => Promise<void>;
} {
  const { model } = activeParts(inference.loadedModel);
  const embedder = model as Model & Partial<Pick<PretrainedModel, 'pooling' | keyof Prompts>>;
  const own: Pooling = embedder.pooling ?? { pooling: 'mean', normalize: false };
  const others = openPoolings(inference);
  return {
    async call(input, options) {
      const { adapter, ...asked } = callOptions(inference.task, settings, options);
      const { pooling = own.pooling } = asked;
      const { normalize = pooling !== 'none' && own.normalize } = asked;
      const { list } = asList(input);
      const choice = chosenAdapters(inference, adapter, list.length);
      const texts = encoded(inference, list, { prompt: promptOf(embedder, asked) });
      if (texts.length === 0) return embeddings(new Float32Array(), [0, 0]);
      if (pooling === own.pooling && (normalize || !own.normalize)) {
        return finished(outputsOf(await inference.answers(texts, choice)), normalize);
      }
      if (own.modules && pooling !== 'none') throw fixedPooling(embedder.name, own.modules);
      const rows = outputsOf(await others.of(pooling).answers(texts, choice));
      if (pooling !== 'none') return finished(rows, normalize);
      const lengths = texts.map(({ ids }) => ids.length);
      const longest = lengths.reduce((most, length) => Math.max(most, length), 0);
      const width = (rows[lengths.indexOf(longest)] as Float32Array).length / longest; // it has no padding
      const filled = rows.map((row, text) => row.subarray(0, (lengths[text] as number) * width));
      return finished(filled, normalize, [longest, width]);
    },
    async release() {
      await others.release();
      await inference.release();
    },
  };
}

/**
 * Returns the prompt to put before texts.
 * @throws ConfigError when the model has no prompt of that name.
 * @throws UnsupportedError when the model's pooling excludes prompts.
 */
function promptOf(
  { name, prompts = {}, defaultPromptName, includePrompt }: Pick<Model, 'name'> & Prompts,
  asked: { readonly [Option in 'prompt' | 'promptName']?: string | undefined },
): string {
  const { promptName = defaultPromptName } = asked;
  const named = promptName === undefined ? '' : new Map(Object.entries(prompts)).get(promptName);
  const prompt = asked.prompt ?? named;
  if (prompt === undefined) {
    const known = firstNames(Object.keys(prompts));
    throw new ConfigError(`option 'promptName' is ${describe(promptName)}; '${name}' has ${known}`, 'promptName');
  }
  if (prompt === '' || includePrompt !== false) return prompt;
  throw new UnsupportedError(
    `'${name}' excludes prompts from its pooling, which is not supported: embed without one, prompt: ''`,
    'prompt',
  );
}

function fixedPooling(name: string, modules: NonNullable<Pooling['modules']>): UnsupportedError {
  const kinds = modules.map(({ kind }) => kind).join(', ');
  return new UnsupportedError(
    `'${name}' has modules after its pooling (${kinds}): omit 'pooling' and 'normalize', or use pooling 'none'`,
    'pooling',
  );
}

function outputsOf(answers: readonly Answer[]): Float32Array[] {
  return answers.map(({ outputs }) => outputs);
}

/** How a call pools. */
type OtherPooling = 'none' | Pooling['pooling'];

/** Opens the model with another pooling than its own; each stays open until it is released. */
function openPoolings(inference: Inference) {
  const opened = new Map<string, Inference>();
  return {
    of(pooling: OtherPooling): Inference {
      const name = String(pooling);
      const open = () => openInference({ ...inference, loadedModel: withPooling(inference.loadedModel, pooling) });
      const own = opened.get(name) ?? open();
      opened.set(name, own);
      return own;
    },
    async release() {
      for (const own of opened.values()) await own.release();
    },
  };
}

/** Returns the model with another pooling. Its adapters are those of `loadedModel`, now and later. */
function withPooling(loadedModel: LoadedModel, pooling: OtherPooling): LoadedModel {
  if (!('adapters' in loadedModel)) return pooledBy(loadedModel, pooling);
  const network = pooledBy(loadedModel.model, pooling);
  return new Proxy(loadedModel, {
    get: (model, name) => (name === 'model' ? network : (Reflect.get(model, name) as unknown)),
  });
}

/** Creates embeddings from rows of a shape; shorter rows end with zeros. */
function finished(
  rows: readonly Float32Array[],
  isNormal: boolean,
  shape: readonly [...axes: number[], width: number] = [(rows[0] as Float32Array).length],
): Embeddings {
  const size = sizeOf(shape);
  const data = new Float32Array(rows.length * size);
  rows.forEach((row, index) => {
    data.set(row, index * size);
  });
  return embeddings(isNormal ? normalized(data, shape.at(-1) as number) : data, [rows.length, ...shape]);
}

/** Returns the model with its token embeddings as outputs, or these pooled. @throws UnsupportedError when it has none. */
function pooledBy(model: Model, pooling: OtherPooling): Model {
  const { tokenEmbeddings: tokens } = model;
  if (tokens) return { ...model, forward: pooling === 'none' ? tokens : pooled(tokens, { pooling, normalize: false }) };
  throw new UnsupportedError(`'${model.name}' only has text embeddings: omit 'pooling' and 'normalize'`, 'pooling');
}
