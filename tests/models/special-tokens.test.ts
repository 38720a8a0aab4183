import type { Storage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { fromPretrained, type Tokenizer } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFolder } from './bert-tiny.js';
import { folder, tiny, type Network } from './tiny.js';
import { packageName } from './use-lite.js';

const bytesOf = (content: unknown): Uint8Array =>
  new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content));

/** A vocabulary of words and added tokens; with `begins`, texts begin with `<s>`, as in Llama. */
function definition(begins: boolean): object {
  const added = ['<s>', '</s>', '<|end|>', '<pad>'].map((content, index) => ({
    id: 10 + index,
    content,
    special: true,
  }));
  const template = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [
      { SpecialToken: { id: '<s>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { Sequence: { id: 'B', type_id: 0 } },
    ],
    special_tokens: { '<s>': { id: '<s>', ids: [10], tokens: ['<s>'] } },
  };
  return {
    version: '1.0',
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: { type: 'Whitespace' },
    post_processor: begins ? template : null,
    decoder: null,
    model: { type: 'WordPiece', unk_token: 'a', vocab: { a: 0, b: 1, '': 9 } },
  };
}

interface Files {
  readonly network?: Network;
  readonly begins?: boolean;
  readonly config?: Record<string, unknown>;
  readonly settings?: unknown;
  readonly map?: unknown;
}

async function tokenizerOf({ network = 'gpt2', begins = false, config, settings, map }: Files): Promise<Tokenizer> {
  const storage: Storage = folder(tiny(network), 'next', { ...(config && { config }) });
  await storage.write('tiny/tokenizer.json', bytesOf(definition(begins)));
  if (settings !== undefined) await storage.write('tiny/tokenizer_config.json', bytesOf(settings));
  if (map !== undefined) await storage.write('tiny/special_tokens_map.json', bytesOf(map));
  return (await fromPretrained('tiny', { storage, task: 'causal-lm' })).tokenizer;
}

const special = ({ eosTokenId, bosTokenId, padTokenId, addBosToken }: Tokenizer) => ({
  eosTokenId,
  bosTokenId,
  padTokenId,
  addBosToken,
});

/** Named in config.json, as for the hub's gpt2, whose tokenizer_config.json names none. */
const ofGpt2 = { bos_token_id: 50, eos_token_id: 50, pad_token_id: null };

describe('the special tokens of a tokenizer', () => {
  it("are those of config.json if nothing else names any; GPT-2's end token is its padding, and does not begin texts", async () => {
    const tokenizer = await tokenizerOf({ config: ofGpt2, settings: { model_max_length: 1024 } });
    expect(special(tokenizer)).toEqual({ eosTokenId: 50, bosTokenId: 50, padTokenId: 50, addBosToken: false });
    expect(tokenizer.encode('a b').ids).toEqual([0, 1]);
  });

  it.each<[string, Files]>([
    ['as text', { settings: { eos_token: '</s>', bos_token: '<s>', pad_token: '<pad>' } }],
    [
      'as objects',
      {
        settings: {
          eos_token: { content: '</s>', lstrip: false },
          bos_token: { content: '<s>' },
          pad_token: { content: '<pad>' },
        },
      },
    ],
    [
      'in the map file of an older version',
      { map: { eos_token: '</s>', bos_token: { content: '<s>' }, pad_token: '<pad>' } },
    ],
    [
      'in both, with the later one first',
      {
        settings: { eos_token: '</s>', bos_token: null },
        map: { eos_token: '<|end|>', bos_token: '<s>', pad_token: '<pad>' },
      },
    ],
  ])('are those that its settings name, %s, before config.json', async (_, files) => {
    const tokenizer = await tokenizerOf({ ...files, config: { ...ofGpt2, pad_token_id: 3 } });
    expect(special(tokenizer)).toEqual({ eosTokenId: 11, bosTokenId: 10, padTokenId: 13, addBosToken: false });
  });

  it('begin a text if the tokenizer adds one', async () => {
    const tokenizer = await tokenizerOf({
      network: 'llama',
      begins: true,
      settings: { bos_token: '<s>', eos_token: '</s>' },
    });
    expect(special(tokenizer)).toMatchObject({ bosTokenId: 10, addBosToken: true });
    expect(tokenizer.encode('a b').ids).toEqual([10, 0, 1]);
    expect(tokenizer.tokenIds('a b')).toEqual([0, 1]);
  });

  it.each([
    [[12, 11], 12],
    [-1, undefined],
    [1_000_000, undefined],
    ['2', undefined],
    [[], undefined],
    [null, undefined],
  ])('of an eos_token_id %j is %s', async (id, eosTokenId) => {
    const settings = { eos_token: '<not a word>', pad_token: 7, bos_token: {} };
    const tokenizer = await tokenizerOf({
      config: { eos_token_id: id, bos_token_id: null, pad_token_id: null },
      settings,
    });
    expect(special(tokenizer)).toEqual({
      eosTokenId,
      bosTokenId: undefined,
      padTokenId: eosTokenId,
      addBosToken: false,
    });
  });

  it('are undefined if a model has none', async () => {
    const none = { eosTokenId: undefined, bosTokenId: undefined, addBosToken: false };
    expect(special((await fromPretrained(packageName)).tokenizer)).toEqual({ ...none, padTokenId: undefined });
    expect(special((await fromPretrained(bertFolder)).tokenizer)).toEqual({ ...none, padTokenId: 0 });
  });

  it("do not change a model's fingerprint", async () => {
    const fingerprint = async (pad: number): Promise<string> =>
      (await tokenizerOf({ config: { pad_token_id: pad } })).fingerprint;
    expect(await fingerprint(1)).toBe(await fingerprint(2));
  });

  it.each([
    ['tokenizer_config.json', { settings: '{' }],
    ['special_tokens_map.json', { map: '[' }],
  ])('are rejected with a damaged %s', async (file, files) => {
    const error = await tokenizerOf(files).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(new RegExp(`^tiny/${file}: expected a JSON file`));
  });
});
