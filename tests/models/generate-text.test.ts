import type { Storage } from '@peftjs/core';
import { ConfigError, UnsupportedError, type Tensors } from '@peftjs/core/method';
import type { ChatMessage } from '@peftjs/core/model';
import { compiled, eager } from '@peftjs/engine';
import {
  fromPretrained,
  generateChat,
  generateText,
  saveMerged,
  type PretrainedModel,
  type RenderOptions,
} from '@peftjs/models';
import type { Decoding } from '@peftjs/models/architectures';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { characterDecoder } from './characters.js';

const executor = compiled({ threads: 1 });

/** ByteLevel has two tokens for the last character. */
const ALPHABET = 'abcÃ©';
const WORDS = 1 + ALPHABET.length;

const load = (storage: Storage): Promise<PretrainedModel> => fromPretrained('tiny', { storage, task: 'causal-lm' });

/** A language model that writes the next letter of its alphabet, and ends the text after the last one. */
const counting: Decoding = {
  words: WORDS,
  maxTokens: 48,
  cacheSpecs: () => ({}),
  readPrompt(_, { inputIds, attentionMask }) {
    const [ids, mask] = [inputIds as tf.Tensor, attentionMask as tf.Tensor];
    const places = tf.range(0, ids.shape[1] as number, 1, 'float32');
    const isLast = tf.cast(tf.equal(places, tf.sub(tf.sum(mask, 1, true), 1)), 'int32'); // [batch, tokens]
    return following(tf.sum(tf.mul(ids, isLast), 1));
  },
  readToken: (_, { inputIds }) => following(tf.reshape(inputIds as tf.Tensor, [-1])),
};

function following(ids: tf.Tensor): Tensors {
  const next = tf.mod(tf.add(tf.cast(ids, 'float32'), 1), WORDS); // [batch]
  return { logits: tf.cast(tf.oneHot(tf.cast(next, 'int32'), WORDS), 'float32') }; // [batch, words]
}

async function alphabet(): Promise<PretrainedModel> {
  return { ...(await load(await characterDecoder('gpt2', ALPHABET))), decoding: counting };
}

describe('a generated text', () => {
  it('ends before the end token that the model names', async () => {
    expect(await generateText(await alphabet(), 'a', { executor })).toBe('bcé');
    expect(await generateText(await alphabet(), 'a', { executor, eosTokenId: [], maxNewTokens: 7 })).toBe('bcéab');
  });

  it('is streamed in pieces of whole characters', async () => {
    const pieces: string[] = [];
    const ids: number[] = [];
    await generateText(await alphabet(), 'a', {
      executor,
      onText: (piece) => void pieces.push(piece),
      onToken: ({ id }) => void ids.push(id),
    });
    expect(pieces).toEqual(['b', 'c', 'é']);
    expect(ids).toEqual([2, 3, 4, 5, 0]);
  });

  it('is streamed completely, even if it ends within a character', async () => {
    const pieces: string[] = [];
    const onText = (piece: string) => void pieces.push(piece);
    expect(await generateText(await alphabet(), 'b', { executor, maxNewTokens: 2, onText })).toBe('c\uFFFD');
    expect(pieces).toEqual(['c', '\uFFFD']);
  });

  it('ends with a stop string, or after the maximum number of tokens', async () => {
    const endless = { eosTokenId: [], maxNewTokens: 40 };
    expect(await generateText(await alphabet(), 'a', { executor, ...endless, stopStrings: ['x', 'éab'] })).toBe(
      'bcéab',
    );
    const atSpecial = { ...endless, stopStrings: ['<|endoftext|>'] };
    expect(await generateText(await alphabet(), 'a', { executor, ...atSpecial })).toBe('bcé');
    const stoppingCriteria = (ids: readonly number[]) => ids.length === 3;
    expect(await generateText(await alphabet(), 'b', { executor, ...endless, stoppingCriteria })).toBe('cé');
    const later = { stoppingCriteria: (ids: readonly number[]) => Promise.resolve(ids.length === 3) };
    expect(await generateText(await alphabet(), 'b', { executor, ...endless, ...later })).toBe('cé');
  });

  it('ends where a turn ends as text, in a template whose end is no token', async () => {
    const template = (messages: readonly ChatMessage[], { addGenerationPrompt }: RenderOptions) =>
      addGenerationPrompt ? 'a' : `${messages.at(-1)?.content}éa`;
    const pieces: string[] = [];
    const options = { executor, template, eosTokenId: [], onText: (piece: string) => void pieces.push(piece) };
    const answer = await generateChat(await alphabet(), [{ role: 'user', content: 'a' }], options);
    expect(answer.content).toBe('bc');
    expect(pieces).toEqual(['b', 'c']);
  });

  it('is held back where the end of a turn may have begun, also one with characters of two code units', async () => {
    const template = (messages: readonly ChatMessage[], { addGenerationPrompt }: RenderOptions) =>
      addGenerationPrompt ? 'a' : `${messages.at(-1)?.content}é😀`;
    const pieces: string[] = [];
    const asked = { eosTokenId: [], maxNewTokens: 6, onText: (piece: string) => void pieces.push(piece) };
    await generateChat(await alphabet(), [{ role: 'user', content: 'a' }], { executor, template, ...asked });
    expect(pieces).toEqual(['b', 'c', 'éa']);
  });

  it('can be stopped by a timer, also on a backend that computes without a pause', async () => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 0);
    const endless = { eosTokenId: [], maxNewTokens: 40, signal: stop.signal };
    const executorWithoutPause = await eager({ backend: 'cpu' });
    await expect(generateText(await alphabet(), 'a', { executor: executorWithoutPause, ...endless })).rejects.toThrow(
      /abort/i,
    );
  });

  it('is refused with an unknown option, and every known one is named', async () => {
    const refused = generateText(await alphabet(), 'a', { executor, doSampel: true } as never);
    await expect(refused).rejects.toThrow(
      /'doSampel' is unknown \(did you mean 'doSample'\?\); known are (?=.*topP)(?=.*eosTokenId)(?=.*onToken)(?=.*signal)(?=.*stopStrings).*onText$/,
    );
  });

  it('is refused with an empty stop string', async () => {
    const refused = generateText(await alphabet(), 'a', { executor, stopStrings: [''] });
    await expect(refused).rejects.toThrow(/'stopStrings' .*expected a list of texts of at least one character/);
  });

  it('is refused with an end token that the model does not know', async () => {
    const refused = generateText(await alphabet(), 'a', { executor, eosTokenId: [1, 100_257] });
    await expect(refused).rejects.toThrow(/'eosTokenId' is 100257; expected ids from 0 to \d+, or \[\] to write on/);
  });

  it('begins with tokens that the model can read', async () => {
    const model = await alphabet();
    await expect(generateText(model, '', { executor })).rejects.toThrow(/prompt 0 is empty/);
    const long = generateText(model, 'ab'.repeat(30), { executor });
    await expect(long).rejects.toThrow(ConfigError);
    await expect(long).rejects.toThrow(/too long for the model; truncate its start/);
    const { tokenizer: _, ...mute } = model;
    await expect(generateText(mute, 'a', { executor })).rejects.toThrow(UnsupportedError);
  });
});

describe('the tokens that end a text', () => {
  const bytes = (content: unknown) => new TextEncoder().encode(JSON.stringify(content));

  async function endsOf(
    config: Record<string, unknown>,
    generation?: unknown,
  ): Promise<PretrainedModel['eosTokenIds']> {
    const storage = await characterDecoder('llama', ALPHABET);
    const settings = JSON.parse(new TextDecoder().decode(await storage.read('tiny/config.json'))) as object;
    await storage.write('tiny/config.json', bytes({ ...settings, ...config }));
    if (generation !== undefined) await storage.write('tiny/generation_config.json', bytes(generation));
    return (await load(storage)).eosTokenIds;
  }

  it('are those of generation_config.json, else of config.json, if they exist', async () => {
    expect(await endsOf({ eos_token_id: [2, 3] }, { eos_token_id: [4, 5] })).toEqual([4, 5]);
    expect(await endsOf({ eos_token_id: [2, 3] }, { temperature: 0.6 })).toEqual([2, 3]);
    expect(await endsOf({ eos_token_id: 3 })).toEqual([3]);
    expect(await endsOf({ eos_token_id: [1, 1e6, -1, 'x'] })).toEqual([1]);
    expect(await endsOf({ eos_token_id: null })).toEqual([]);
  });

  it('are rejected if the file is not JSON', async () => {
    const storage = await characterDecoder('llama', ALPHABET);
    await storage.write('tiny/generation_config.json', new TextEncoder().encode('{'));
    await expect(load(storage)).rejects.toThrow(/tiny\/generation_config\.json: expected a JSON file/);
  });

  it('are saved with a merged model', async () => {
    const storage = await characterDecoder('gpt2', ALPHABET);
    await storage.write('tiny/generation_config.json', bytes({ eos_token_id: [4, 5] }));
    const model = await load(storage);
    await saveMerged(model, 'merged', { sourceStorage: storage, storage });
    expect((await fromPretrained('merged', { storage, task: 'causal-lm' })).eosTokenIds).toEqual([4, 5]);
  });
});
