import { memoryStorage } from '@peftjs/core';
import {
  chatML,
  encodeLanguage,
  encodePreferences,
  isChatSet,
  isLanguageFile,
  isPreferenceSet,
  languageSet,
  preferenceEvaluation,
  readLanguageSet,
  readLanguageTask,
  sliceCausal,
  splitCausal,
  trainingData,
  type CausalTokenizer,
  type LanguageSet,
} from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';

const bytes = (...rows: readonly object[]) =>
  new TextEncoder().encode(rows.map((row) => JSON.stringify(row)).join('\n'));
const read = (...rows: readonly object[]) => readLanguageSet(bytes(...rows), { path: 'pairs.jsonl' });
const ask = (content: string) => ({ role: 'user', content });
const say = (content: string) => ({ role: 'assistant', content });

/** One token per character, from 1; 0 ends a text. */
const characters: CausalTokenizer = { tokenIds: (text) => Array.from(text, (c) => c.charCodeAt(0)), eosTokenId: 0 };
const text = (ids: ArrayLike<number>) => Array.from(ids, (id) => (id > 0 ? String.fromCharCode(id) : '')).join('');

describe('preferences in JSON lines', () => {
  it('are texts, with a prompt that may be empty', async () => {
    const rows = [{ prompt: '2+2=', chosen: '4', rejected: '5' }, { prompt: '', chosen: 'a', rejected: 'b' }]; // oxfmt-ignore
    const set = await read(...rows);
    expect(set.rows).toEqual(rows);
    expect([isPreferenceSet(set), isChatSet(set)]).toEqual([true, false]);
    expect(isLanguageFile(bytes(...rows), 'pairs.jsonl')).toBe(true);
    expect(isLanguageFile(bytes({ chosen: [], rejected: [] }), 'pairs.jsonl')).toBe(true);
  });

  it('are messages with tools', async () => {
    const tools = [{ type: 'function', function: { name: 'look' } }];
    const row = { prompt: [ask('heron?')], chosen: [say('a bird')], rejected: [say('a fish')], tools };
    const set = await read(row);
    expect(set.rows).toEqual([row]);
    expect(isChatSet(set)).toBe(true);
  });

  it('may be whole conversations, whose common beginning is the prompt', async () => {
    const prompt = [ask('a?'), say('b'), ask('c?')];
    const { rows } = await read({ chosen: [...prompt, say('d')], rejected: [...prompt, say('e'), ask('f?')] });
    expect(rows).toEqual([{ prompt, chosen: [say('d')], rejected: [say('e'), ask('f?')] }]);
  });

  it('may repeat the prompt as a text, and the preferred answer as messages', async () => {
    const [chosen, rejected] = [[ask('a?'), say('b')], [ask('a?'), say('c')]]; // oxfmt-ignore
    const { rows } = await read({ prompt: 'a?', chosen, rejected, messages: chosen });
    expect(rows).toEqual([{ prompt: [ask('a?')], chosen: [say('b')], rejected: [say('c')] }]);
  });

  it.each([
    [{ chosen: 'a', rejected: 'b' }, 'expected "prompt" to be a string, got nothing'],
    [{ prompt: 'p', chosen: 'a', rejected: ' ' }, 'the row has no rejected; fill it in or remove the row'],
    [
      { prompt: 'p', chosen: [say('a')], rejected: [say('b')] },
      'expected "prompt" to be a list of messages, got "\\"p\\""',
    ],
    [{ prompt: [ask('p')], chosen: [say('a')], rejected: [] }, 'expected "rejected" to be a list of messages'],
    [
      { prompt: [ask('p')], chosen: [say('a')], rejected: [{ role: 'bot', content: '' }] },
      `message 1 of "rejected": expected 'role'`,
    ],
    [
      { prompt: [ask('p')], chosen: [ask('a')], rejected: [say('b')] },
      '"chosen" to answer with a message of the assistant, got the role "user"',
    ],
    [{ chosen: [ask('p'), say('a')], rejected: [ask('p'), say('a')] }, 'got the same messages in both'],
  ])('are refused: %j', async (row, message) => {
    await expect(read(row)).rejects.toThrow(`pairs.jsonl:1: `);
    await expect(read(row)).rejects.toThrow(message);
  });

  it('are a task of their own, whose held-out rows share no prompt with the others', async () => {
    const rows = Array.from({ length: 40 }, (_, row) => ({
      prompt: `${row % 10}`,
      chosen: `${row}a`,
      rejected: `${row}b`,
    }));
    const storage = memoryStorage(new Map([['pairs.jsonl', bytes(...rows)], ['notes.txt', new TextEncoder().encode('a')]])); // oxfmt-ignore
    const task = await readLanguageTask({ train: 'pairs.jsonl', storage });
    expect(task.kind).toBe('preferences');
    const prompts = ({ rows: own }: LanguageSet) => new Set(own.map((row) => ('rejected' in row ? row.prompt : '')));
    expect(prompts(task.train).size + prompts(task.dev).size).toBe(10);
    const mixed = readLanguageTask({ train: 'pairs.jsonl', dev: 'notes.txt', storage });
    await expect(mixed).rejects.toThrow('notes.txt: expected rows with "chosen" and "rejected", as pairs.jsonl has');
  });
});

describe('encoded preferences', () => {
  const encode = async (rows: LanguageSet['rows'], maxTokens = 200) =>
    encodePreferences(await languageSet('pairs', rows), characters, { maxTokens, template: chatML });

  it('have each answer after its prompt, and learn the answers', async () => {
    const { kind, rows } = await encode([{ prompt: 'ab', chosen: 'c', rejected: 'de' }]);
    expect(kind).toBe('preferences');
    const [chosen, rejected] = rows[0]?.texts ?? [];
    expect([chosen, rejected]).toEqual([
      { ids: Int32Array.of(97, 98, 99, 0), labels: Int32Array.of(-100, -100, 99, 0) },
      { ids: Int32Array.of(97, 98, 100, 101, 0), labels: Int32Array.of(-100, -100, 100, 101, 0) },
    ]);
  });

  it('do not learn what the assistant says in the prompt', async () => {
    const prompt = [{ role: 'assistant', content: 'before' }, { role: 'user', content: 'then?' }] as const; // oxfmt-ignore
    const answer = (content: string) => [{ role: 'assistant', content }] as const;
    const { rows } = await encode([{ prompt, chosen: answer('good'), rejected: answer('bad') }]);
    const learnt = rows[0]?.texts.map(({ labels }) => text(labels));
    expect(learnt).toEqual(['good<|im_end|>\n', 'bad<|im_end|>\n']);
  });

  it('are cut at their end, and left out where nothing of an answer remains', async () => {
    const rows = [{ prompt: 'abc', chosen: 'defg', rejected: 'h' }, { prompt: 'abcdef', chosen: 'g', rejected: 'h' }]; // oxfmt-ignore
    const data = await encode(rows, 6);
    expect(data).toMatchObject({ truncated: 1, dropped: 1 });
    expect(data.rows).toHaveLength(1);
    await expect(encode(rows.slice(1), 6)).rejects.toThrow('pairs: expected tokens to learn, got none within 6 tokens');
  });

  it('become batches with all chosen answers before the rejected ones', async () => {
    const data = await encode([{ prompt: 'a', chosen: 'b', rejected: 'cd' }, { prompt: 'e', chosen: 'f', rejected: 'g' }]); // oxfmt-ignore
    const [batch] = trainingData(data, { batchSize: 2, seed: 1, padId: 7 }).epoch(0);
    const { columns, inputs, labels, rows, rowWeights } = batch ?? expect.fail('no batch');
    const order = rows[0] === 0 ? [0, 1, 2, 3] : [1, 0, 3, 2];
    const sequences = (of: ArrayLike<number>) => order.map((at) => Array.from(of).slice(4 * at, 4 * at + 4));
    expect([columns, rowWeights.shape, labels.shape, inputs['inputIds']?.shape]).toEqual([2, [2], [4, 4], [4, 4]]);
    expect(sequences(inputs['inputIds']?.data ?? [])).toEqual([[97, 98, 0, 7], [101, 102, 0, 7], [97, 99, 100, 0], [101, 103, 0, 7]]); // oxfmt-ignore
    expect(sequences(labels.data)).toEqual([[-100, 98, 0, -100], [-100, 102, 0, -100], [-100, 99, 100, 0], [-100, 103, 0, -100]]); // oxfmt-ignore
    expect(sequences(inputs['attentionMask']?.data ?? [])[2]).toEqual([1, 1, 1, 1]);
  });

  it('are drawn and split, prompts as a whole', async () => {
    const rows = Array.from({ length: 12 }, (_, row) => ({
      prompt: `p${row % 3}`,
      chosen: `${row}a`,
      rejected: `${row}b`,
    }));
    const data = await encode(rows);
    expect(sliceCausal(data, 5, 1)).toMatchObject({ kind: 'preferences', rows: { length: 5 } });
    const { train, selection } = splitCausal(data, { share: 0.3, seed: 1 });
    const prompts = ({ rows: own }: typeof data) => new Set(own.map(({ texts: [{ ids }] }) => ids[1]));
    expect([train.rows.length, selection.rows.length]).toEqual([8, 4]);
    expect(prompts(train).size + prompts(selection).size).toBe(3);
  });

  it('are not for encodeLanguage, nor other rows for encodePreferences', async () => {
    const pairs = await languageSet('pairs', [{ prompt: 'a', chosen: 'b', rejected: 'c' }]);
    expect(() => encodeLanguage(pairs, characters, { maxTokens: 8 })).toThrow(
      'pairs holds preferences: encode them by encodePreferences',
    );
    const texts = await languageSet('texts', [{ text: 'a' }]);
    expect(() => encodePreferences(texts, characters, { maxTokens: 8 })).toThrow(
      'texts: expected rows with prompt, chosen and rejected',
    );
  });
});

describe('the metrics of preferences', () => {
  const evaluated = async () => {
    const rows = [{ prompt: 'a', chosen: 'b', rejected: 'cd' }, { prompt: 'e', chosen: 'fg', rejected: 'h' }]; // oxfmt-ignore
    const data = encodePreferences(await languageSet('pairs', rows), characters, { maxTokens: 8 });
    return preferenceEvaluation(data, { batchSize: 2, beta: 0.5 });
  };
  /** -log p and the number of tokens of the chosen and the rejected answer. */
  const outputs = [Float32Array.of(4, 2, 9, 3), Float32Array.of(6, 3, 2, 2)];
  const reference = [Float32Array.of(3, 2, 9, 3), Float32Array.of(9, 3, 4, 2)];

  it('are those of log p per token without a reference', async () => {
    expect((await evaluated()).score(outputs)).toEqual({
      rewardAccuracy: 0.5,
      rewardMargin: (0.5 * (-2 + 3) + 0.5 * (-2 + 1)) / 2,
      rewardChosen: (0.5 * -2 + 0.5 * -2) / 2,
      rewardRejected: (0.5 * -3 + 0.5 * -1) / 2,
      logpsChosen: -5,
      logpsRejected: -5.5,
      perplexity: Math.exp(10 / 5),
    });
  });

  it('compare the answers with a reference', async () => {
    const compared = (await evaluated()).withReference?.(reference);
    expect(compared?.score(outputs)).toMatchObject({ rewardAccuracy: 0.5, rewardChosen: (0.5 * -1 + 0.5 * 3) / 2, rewardMargin: 0 }); // oxfmt-ignore
    expect(compared?.predictions?.(outputs)).toEqual({ predicted: [0, 1], actual: [1, 1] });
    expect(compared?.scoreRows?.({ predicted: [0, 1], actual: [1, 1] }, [1, 1, 0])).toEqual({ rewardAccuracy: 2 / 3 });
  });

  it('need the surprise at each answer', async () => {
    const judged = await evaluated();
    expect(() => judged.score([new Float32Array(9), new Float32Array(9)])).toThrow(
      'pairs: expected four numbers for each of 2 rows, of evaluationOutputs, got 9 numbers for a row',
    );
    expect(() => judged.score([])).toThrow('got 0 rows');
  });
});
