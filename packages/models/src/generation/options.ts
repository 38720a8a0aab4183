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
import type { Decoding } from '../architecture.js';
import { shown } from '../json.js';
import type { Sampling } from './next-token.js';

/** How texts are written; names and defaults are those of transformers.js. */
export interface GenerateOptions {
  /** Tokens to write after each prompt, at most. Default 20. */
  readonly maxNewTokens?: number;
  /** Draws every token by its probability, where else the most likely one is taken. Default false. */
  readonly doSample?: boolean;
  /** Below 1 what is likely becomes likelier, above 1 less so. Default 1. */
  readonly temperature?: number;
  /** Draws from so many of the most likely tokens; 0 for all of them. Default 50. */
  readonly topK?: number;
  /** Draws from the fewest tokens that are so probable together. Default 1: from all of them. */
  readonly topP?: number;
  /** Above 1 what stands in the text already becomes less likely, below 1 likelier. Default 1. */
  readonly repetitionPenalty?: number;
  /** Of what is drawn: the same seed gives the same texts. Default 0. */
  readonly seed?: number;
  /** The tokens that end a text, which they belong to. Default: the model's own; none for an empty list. */
  readonly eosTokenId?: number | readonly number[];
  /** Whether a text, given what was written after its prompt and the prompt's number, is to end here. Asked after every token. */
  readonly stoppingCriteria?: (ids: readonly number[], prompt: number) => boolean;
  /** Told of every token as it is written; waited for. */
  readonly onToken?: (token: WrittenToken) => unknown;
  /** Ends the writing by throwing its reason. */
  readonly signal?: AbortSignal;
}

/** A token as it is written. */
export interface WrittenToken {
  /** The number of the prompt that it goes on with. */
  readonly prompt: number;
  readonly id: number;
}

/** What was written after a prompt. */
export interface Generated {
  /** Without the prompt; a token that ends a text is the last of them. */
  readonly ids: number[];
  /** Why there is no more: a token that ends a text, the length asked for or the model's own, or a criterion of the caller's. */
  readonly ended: 'eos' | 'length' | 'stopped';
}

/** Options that are numbers, filled in and checked. */
export interface GenerationSettings extends Sampling {
  readonly maxNewTokens: number;
  readonly doSample: boolean;
  readonly repetitionPenalty: number;
  readonly seed: number;
  readonly eosTokenIds: ReadonlySet<number>;
}

const DEFAULTS = { maxNewTokens: 20, temperature: 1, topK: 50, topP: 1, repetitionPenalty: 1, seed: 0 };

const OF_DRAWS: readonly string[] = ['temperature', 'topK', 'topP'];

const numbers = {
  maxNewTokens: integerFrom(1),
  temperature: positive,
  topK: integerFrom(0),
  topP: positive,
  repetitionPenalty: positive,
  seed: integerFrom(0),
};

/**
 * Fills in defaults. @param own the model's tokens that end a text
 * @throws ConfigError naming the option.
 */
export function generationSettings(options: GenerateOptions, own: readonly number[] = []): GenerationSettings {
  const { doSample = false, eosTokenId = own, stoppingCriteria: _, onToken: __, signal: ___, ...given } = options;
  const chosen = Object.entries<unknown>(given).filter(([, value]) => value !== undefined);
  const ofDraws = chosen.map(([name]) => name).filter((name) => OF_DRAWS.includes(name));
  if (!doSample && ofDraws.length > 0) {
    warnOnce(`generate: ${ofDraws.join(', ')} changes nothing without doSample: the most likely token is taken`);
  }
  const settings = parseOptions('generate', numbers, { ...DEFAULTS, ...Object.fromEntries(chosen) });
  if (settings.topP > 1) throw refused('topP', settings.topP, 'a share of at most 1');
  const eosTokenIds: unknown = typeof eosTokenId === 'number' ? [eosTokenId] : eosTokenId;
  if (!Array.isArray(eosTokenIds) || !eosTokenIds.every((id) => Number.isInteger(id))) {
    throw refused('eosTokenId', eosTokenId, 'the id of a token, or a list of ids');
  }
  return { ...settings, doSample, eosTokenIds: new Set<number>(eosTokenIds) };
}

function refused(option: string, value: unknown, expected: string): ConfigError {
  return new ConfigError(`generate: option '${option}' is ${shown(value)}; expected ${expected}`, option);
}

/** Least size of what is compiled for a number of tokens: prompts of many lengths then share it. */
const LEAST_TOKENS = 16;

/** How a model goes on with a text. @throws UnsupportedError when it does not. */
export function decodingOf(model: Model & { readonly decoding?: Decoding }): Decoding {
  if (model.decoding) return model.decoding;
  throw new UnsupportedError(
    `'${model.name}' does not say what comes next: load a decoder with the task 'causal-lm', this is for '${model.task ?? 'sequence-classification'}'`,
    'task',
  );
}

/** @throws ConfigError for prompts that a model cannot go on with, naming the first. */
export function checkPrompts(prompts: readonly ArrayLike<number>[], { words, maxTokens }: Decoding): void {
  if (!Array.isArray(prompts) || prompts.length === 0) throw refusedPrompt('', prompts, 'a list of prompts');
  prompts.forEach((prompt: unknown, number) => {
    const name = ` ${number}`;
    if (!isList(prompt)) throw refusedPrompt(name, shown(prompt), 'a list of token ids');
    if (prompt.length === 0) throw refusedPrompt(name, 'empty', 'at least one token, e.g. the one that begins a text');
    if (prompt.length > maxTokens) {
      throw refusedPrompt(
        name,
        `${prompt.length} tokens long`,
        `at most the ${maxTokens} that the model reads: cut its beginning`,
      );
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

/** The size that is compiled for a number of tokens: a power of two, or the most that the model reads. */
export function roomFor(tokens: number, { maxTokens }: Pick<Decoding, 'maxTokens'>): number {
  return Math.min(maxTokens, Math.max(LEAST_TOKENS, 2 ** Math.ceil(Math.log2(tokens))));
}

/** What a model reads of prompts: `inputIds` and `attentionMask`, [prompts, tokens], padded at the end. */
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
