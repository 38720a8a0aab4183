import { hostTensor, type Model } from '@peftjs/core';
import {
  ConfigError,
  hostIntegers,
  integerFrom,
  parseOptions,
  positive,
  UnsupportedError,
  warnOnce,
  type HostTensors,
} from '@peftjs/core/method';
import { aFunction, aSignal } from '@peftjs/core/model';
import * as v from 'valibot';
import type { Decoding } from '../architecture.js';
import { shown } from '../json.js';

/** Options of text generation. Names and defaults are those of transformers.js. */
export interface GenerateOptions {
  /** The maximum number of tokens generated per prompt. Default 20. */
  readonly maxNewTokens?: number;
  /** Whether to draw each token by its probability instead of choosing the most likely one. Default false. */
  readonly doSample?: boolean;
  /** Divides the logits: values below 1 sharpen the distribution, values above 1 flatten it. Default 1. */
  readonly temperature?: number;
  /** The number of most likely tokens to draw from; 0 for all. Default 50. */
  readonly topK?: number;
  /** Draws from the fewest tokens whose total probability reaches this share. Default 1: all tokens. */
  readonly topP?: number;
  /** Draws from the tokens that are at least this share as likely as the likeliest one. Default 0: all tokens. */
  readonly minP?: number;
  /** Values above 1 make tokens that are already in the text less likely, values below 1 more likely. Default 1. */
  readonly repetitionPenalty?: number;
  /** No sequence of this many tokens is written twice, nor one of the prompt again; 0 for no limit. Default 0. */
  readonly noRepeatNgramSize?: number;
  /** The seed of the draws: the same seed gives the same text for a prompt at the same place in the list. Default 0. */
  readonly seed?: number;
  /** The tokens that end a text; they are part of it. An empty list means none. Default: the model's own. */
  readonly eosTokenId?: number | readonly number[];
  /**
   * Called after every token with the generated IDs and the prompt's index, and awaited. Returns whether the text ends
   * here.
   */
  readonly stoppingCriteria?: (ids: readonly number[], prompt: number) => boolean | Promise<boolean>;
  /** Called with every generated token, and awaited. */
  readonly onToken?: (token: GeneratedToken) => unknown;
  /** Aborts the generation by throwing the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A generated token. */
export interface GeneratedToken {
  /** The index of the prompt that it continues. */
  readonly prompt: number;
  /** The token's ID. */
  readonly id: number;
}

/** The continuation of a prompt. */
export interface GenerationResult {
  /** The generated tokens without the prompt, including the end token if there was one. */
  readonly ids: number[];
  /** Why the text ended: an end token, `maxNewTokens` or the model's maximum length, or `stoppingCriteria`. */
  readonly ended: 'eos' | 'length' | 'stopped';
}

/** The checked options, with defaults filled in and end tokens as a set. */
export type GenerationSettings = ReturnType<typeof generationSettings>;

const SAMPLING_OPTIONS = ['temperature', 'topK', 'topP', 'minP'] as const;

/** The fields of `GenerateOptions`. */
export const generationEntries = {
  maxNewTokens: v.optional(integerFrom(1), 20),
  doSample: v.optional(v.boolean(), false),
  temperature: v.optional(positive, 1),
  topK: v.optional(integerFrom(0), 50),
  topP: v.optional(v.pipe(positive, v.maxValue(1, 'at most 1')), 1),
  minP: v.optional(v.pipe(v.number(), v.minValue(0, 'at least 0'), v.maxValue(1, 'at most 1')), 0),
  repetitionPenalty: v.optional(positive, 1),
  noRepeatNgramSize: v.optional(integerFrom(0), 0),
  seed: v.optional(integerFrom(0), 0),
  eosTokenId: v.optional(
    v.custom<number | readonly number[]>(
      (given) => [given].flat().every((id) => Number.isInteger(id)),
      'the id of a token, or a list of ids',
    ),
  ),
  stoppingCriteria: v.optional(aFunction),
  onToken: v.optional(aFunction),
  signal: v.optional(aSignal),
} satisfies Record<keyof GenerateOptions, unknown>;

/**
 * Checks options and fills in defaults.
 * @param own The end tokens of the model.
 * @param words The number of tokens that the model knows.
 * @throws ConfigError naming the invalid option.
 */
export function generationSettings(options: GenerateOptions, own: readonly number[], words: number) {
  const { doSample, eosTokenId = own, ...settings } = parseOptions('generate', generationEntries, options);
  const eosTokenIds = new Set([eosTokenId].flat());
  const odd = [...eosTokenIds].find((id) => id < 0 || id >= words);
  if (odd !== undefined) {
    const expected = `expected ids from 0 to ${words - 1}, or [] to write on to 'maxNewTokens'`;
    throw new ConfigError(`generate: option 'eosTokenId' is ${odd}; ${expected}`, 'eosTokenId');
  }
  const samplingOptions = SAMPLING_OPTIONS.filter((name) => options[name] !== undefined);
  if (!doSample && samplingOptions.length > 0) {
    warnOnce(`generate: ${samplingOptions.join(', ')} has no effect without doSample: the most likely token is used`);
  }
  return { ...settings, doSample, eosTokenIds };
}

/** The minimum size of compiled shapes, in tokens, so that short prompts of different lengths share them. */
const MIN_TOKENS = 16;

/** Returns how a model generates text. @throws UnsupportedError when it cannot. */
export function decodingOf(model: Model & { readonly decoding?: Decoding }): Decoding {
  if (model.decoding) return model.decoding;
  throw new UnsupportedError(
    `'${model.name}' cannot generate text: load a decoder with the task 'causal-lm', this is for '${model.task ?? 'sequence-classification'}'`,
    'task',
  );
}

/** @throws ConfigError naming the first invalid prompt. */
export function checkPrompts(prompts: readonly ArrayLike<number>[], { words, maxTokens }: Decoding): void {
  if (!Array.isArray(prompts) || prompts.length === 0) throw refusedPrompt('', prompts, 'a list of prompts');
  prompts.forEach((prompt: unknown, number) => {
    const name = ` ${number}`;
    if (!isList(prompt)) throw refusedPrompt(name, shown(prompt), 'a list of token ids');
    if (prompt.length === 0) throw refusedPrompt(name, 'empty', 'at least one token, e.g. the start token');
    if (prompt.length > maxTokens) {
      throw refusedPrompt(name, `${prompt.length} tokens long`, `at most ${maxTokens}: truncate its start`);
    }
    const odd = Array.from(prompt).find((id) => !Number.isInteger(id) || id < 0 || id >= words);
    if (odd !== undefined) throw refusedPrompt(name, `with the token ${odd}`, `ids from 0 to ${words - 1}`);
  });
}

function isList(prompt: unknown): prompt is ArrayLike<number> {
  return Array.isArray(prompt) || ArrayBuffer.isView(prompt);
}

function refusedPrompt(name: string, got: unknown, expected: string): ConfigError {
  return new ConfigError(`generate: prompt${name} is ${String(got)}; expected ${expected}`, 'prompts');
}

/** Returns the compiled size for a number of tokens: the next power of two, at most the model's maximum. */
export function roomFor(tokens: number, { maxTokens }: Pick<Decoding, 'maxTokens'>): number {
  return Math.min(maxTokens, Math.max(MIN_TOKENS, 2 ** Math.ceil(Math.log2(tokens))));
}

/** Returns the inputs for prompts: `inputIds` and `attentionMask`, [prompts, tokens], padded at the end. */
export function promptInputs(prompts: readonly ArrayLike<number>[], tokens: number): HostTensors {
  const shape = [prompts.length, tokens];
  const ids = new Int32Array(prompts.length * tokens);
  const mask = new Float32Array(prompts.length * tokens);
  prompts.forEach((prompt, row) => {
    ids.set(Array.from(prompt), row * tokens);
    mask.fill(1, row * tokens, row * tokens + prompt.length);
  });
  return { inputIds: hostIntegers(ids, shape), attentionMask: hostTensor(mask, shape) };
}
