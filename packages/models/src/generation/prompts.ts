import { ConfigError, hostIntegers, hostTensor, UnsupportedError, type HostTensors, type Model } from '@peftjs/core';
import type { Decoding } from '../architecture.js';
import { shown } from '../json.js';

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
  if (!Array.isArray(prompts) || prompts.length === 0) throw refused('', prompts, 'a list of prompts');
  prompts.forEach((prompt: unknown, number) => {
    const name = ` ${number}`;
    if (!isList(prompt)) throw refused(name, shown(prompt), 'a list of token ids');
    if (prompt.length === 0) throw refused(name, 'empty', 'at least one token, e.g. the one that begins a text');
    if (prompt.length > maxTokens) {
      throw refused(
        name,
        `${prompt.length} tokens long`,
        `at most the ${maxTokens} that the model reads: cut its beginning`,
      );
    }
    const odd = Array.from(prompt).find((id) => !Number.isInteger(id) || id < 0 || id >= words);
    if (odd !== undefined) throw refused(name, `with the token ${odd}`, `ids from 0 to ${words - 1}`);
  });
}

function isList(prompt: unknown): prompt is ArrayLike<number> {
  return Array.isArray(prompt) || ArrayBuffer.isView(prompt);
}

function refused(name: string, got: unknown, expected: string): ConfigError {
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
