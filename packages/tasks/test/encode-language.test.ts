import type { Batch } from '@peftjs/core';
import { ConfigError, DataError, ShapeError } from '@peftjs/core/method';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  causalEvaluation,
  encodeLanguage,
  languageSet,
  sliceCausal,
  splitCausal,
  trainingData,
  type CausalData,
  type CausalTokenizer,
  type ChatTemplate,
  type LanguageSet,
} from '@peftjs/tasks';

/** One token per character: its code point. 0 ends a text, 1 begins one. */
const characters: CausalTokenizer = {
  tokenIds: (text) => Array.from(text, (c) => c.codePointAt(0) ?? 0),
  eosTokenId: 0,
};
const beginning: CausalTokenizer = { ...characters, bosTokenId: 1 };

const encode = async (rows: LanguageSet['rows'], maxTokens: number, tokenizer = characters) =>
  encodeLanguage(await languageSet('notes', rows), tokenizer, { maxTokens });

/** The characters of a row, with `$` for the end and `^` for the beginning; `.` in the labels is not learnt. */
const shown = (ids: ArrayLike<number>) =>
  Array.from(ids, (id) => (id === -100 ? '.' : id === 0 ? '$' : id === 1 ? '^' : String.fromCodePoint(id))).join('');
const rowsOf = ({ rows }: CausalData) => rows.map(({ ids, labels }) => [shown(ids), shown(labels)]);

describe('texts', () => {
  it('are packed into rows, separated by the end-of-text token', async () => {
    const data = await encode([{ text: 'abcde' }, { text: 'fg' }, { text: 'hij' }], 4);
    expect(rowsOf(data)).toEqual([
      ['abcd', 'abcd'],
      ['e$fg', 'e$fg'],
      ['$hij', '$hij'],
    ]);
    expect(data).toMatchObject({ name: 'notes', kind: 'causal-lm', maxTokens: 4, truncated: 0, dropped: 1 }); // the last $
  });

  it("begin with the tokenizer's first token", async () => {
    expect(rowsOf(await encode([{ text: 'ab' }, { text: 'c' }], 8, beginning))).toEqual([['^ab$^c$', '^ab$^c$']]);
  });

  it('begin without that token if the tokenizer does not add it', async () => {
    const silent = { ...beginning, addBosToken: false };
    expect(rowsOf(await encode([{ text: 'ab' }], 8, silent))).toEqual([['ab$', 'ab$']]);
    expect(rowsOf(await encode([{ prompt: 'q', completion: 'a' }], 8, silent))).toEqual([['qa$', '.a$']]);
  });

  it('need an end-of-text token', async () => {
    const endless = encode([{ text: 'ab' }], 8, { tokenIds: beginning.tokenIds, eosTokenId: undefined });
    await expect(endless).rejects.toThrow(ConfigError);
    await expect(endless).rejects.toThrow(
      /expected a tokenizer with an end-of-text token, got one without; name its eos_token/,
    );
  });

  it('lose no tokens', async () => {
    const documents = fc.array(fc.string({ minLength: 1, maxLength: 9, unit: fc.constantFrom('a', 'b', 'c') }), { minLength: 1 }); // oxfmt-ignore
    await fc.assert(
      fc.asyncProperty(documents, fc.integer({ min: 2, max: 12 }), async (texts, maxTokens) => {
        const data = await encode(texts.map((text) => ({ text })), maxTokens); // oxfmt-ignore
        const whole = `${texts.join('$')}$`;
        const packed = data.rows.map(({ ids }) => shown(ids)).join('');
        expect(packed).toBe(data.dropped === 1 ? whole.slice(0, -1) : whole);
        expect(data.rows.slice(0, -1).every(({ ids }) => ids.length === maxTokens)).toBe(true);
      }),
    );
  });
});

describe('instructions', () => {
  it('are only learnt from the completion on, including its end', async () => {
    const data = await encode([{ prompt: 'q:', completion: 'yes' }, { prompt: '', completion: 'no' }], 16); // oxfmt-ignore
    expect(rowsOf(data)).toEqual([
      ['q:yes$', '..yes$'],
      ['no$', 'no$'],
    ]);
  });

  it("begin with the tokenizer's first token, which is not learnt", async () => {
    expect(rowsOf(await encode([{ prompt: 'q:', completion: 'a' }], 16, beginning))).toEqual([['^q:a$', '...a$']]);
  });

  it('are truncated at the end if they are too long, and left out if nothing to learn is left', async () => {
    const rows = [
      { prompt: 'q', completion: 'yes' },
      { prompt: 'a long question', completion: 'no' },
      { prompt: '', completion: 'x' },
    ];
    const data = await encode(rows, 4);
    expect(rowsOf(data)).toEqual([
      ['qyes', '.yes'],
      ['x$', 'x$'],
    ]);
    expect([data.truncated, data.dropped]).toEqual([1, 1]);
    await expect(encode(rows.slice(1, 2), 4)).rejects.toBeInstanceOf(DataError);
    await expect(encode(rows.slice(1, 2), 4)).rejects.toThrow(/notes: expected tokens to learn, got none within 4/);
  });

  it.each([0, 1, 1.5])('cannot be encoded in %s tokens', async (maxTokens) => {
    await expect(encode([{ text: 'abc' }], maxTokens)).rejects.toBeInstanceOf(ConfigError);
  });
});

describe('conversations', () => {
  const user = { role: 'user', content: 'Hi?' } as const;
  const assistant = { role: 'assistant', content: 'Yo.' } as const;
  const system = { role: 'system', content: 'Be kind.' } as const;
  const learnt = async (
    messages: readonly { role: 'user' | 'assistant' | 'system'; content: string }[],
    template?: ChatTemplate,
    tokenizer = beginning,
  ) => {
    const set = await languageSet('chat', [{ messages }]);
    const [row] = encodeLanguage(set, tokenizer, { maxTokens: 999, template }).rows;
    return [shown(row?.ids ?? []), shown(row?.labels ?? [])] as const;
  };

  it('are written in ChatML, and every answer is learnt with its end', async () => {
    const [text, labels] = await learnt([system, user, assistant, user, assistant]);
    const start = '<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n';
    const answer = 'Yo.<|im_end|>\n';
    const again = '<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n';
    const masked = (part: string) => '.'.repeat(part.length);
    expect(text).toBe(start + answer + again + answer);
    expect(labels).toBe(masked(start) + answer + masked(again) + answer);
  });

  it('end with the last answer', async () => {
    expect(await learnt([user, assistant, user])).toEqual(await learnt([user, assistant]));
  });

  const initials: ChatTemplate = (messages, { addGenerationPrompt }) =>
    messages.map(({ role, content }) => `${role.charAt(0)}:${content};`).join('') + (addGenerationPrompt ? 'a:' : '');

  it('are written by the template', async () => {
    expect(await learnt([user, assistant], initials)).toEqual(['u:Hi?;a:Yo.;', '........Yo.;']);
  });

  it("have one mark of a text's beginning, and learn a token across the beginning of an answer", async () => {
    const marking = { ...beginning, tokenIds: (text: string) => characters.tokenIds(`_${text.replaceAll(':Y', 'Z')}`) };
    const [text, labels] = await learnt([user, assistant, user, assistant], initials, marking);
    expect([text, labels]).toEqual(['_u:Hi?;aZo.;u:Hi?;aZo.;', '........Zo.;.......Zo.;']);
  });

  it('are read at once and up to the last edge that is kept, if the tokenizer marks the beginning of a text', async () => {
    const read: string[] = [];
    const tokenIds = (text: string) => (read.push(text), characters.tokenIds(`_${text}`));
    const messages = Array.from({ length: 9 }, () => [user, assistant]).flat();
    const set = await languageSet('chat', [{ messages }]);
    const data = encodeLanguage(set, { ...beginning, tokenIds }, { maxTokens: 16, template: initials });
    expect(rowsOf(data)).toEqual([['_u:Hi?;a:Yo.;u:H', '.........Yo.;...']]);
    expect(data.truncated).toBe(1);
    const edges = ['u:Hi?;a:', 'u:Hi?;a:Yo.;', 'u:Hi?;a:Yo.;u:Hi?;a:'];
    expect(read.filter((text) => text.includes(';'))).toEqual([messages.map(({ role, content }) => `${role.charAt(0)}:${content};`).join(''), ...edges]); // oxfmt-ignore
  });

  it('may begin with an answer, also where the template reads the first message', async () => {
    const template: ChatTemplate = (messages, { addGenerationPrompt }) => {
      if (messages.length === 0) throw new DataError('there is no first message');
      const turns = messages.map(({ role, content }) => `${role.charAt(0)}:${(content ?? '').trim()};`);
      return `You are;${turns.join('')}${addGenerationPrompt ? 'a:' : ''}`;
    };
    const [text, labels] = await learnt([{ role: 'assistant', content: ' You? ' }, user, assistant], template);
    expect([text, labels]).toEqual(['You are;a:You?;u:Hi?;a:Yo.;', '..........You?;........Yo.;']);
  });

  it.each(['end', 'm', ''])('that begin with the answer %j learn it and its end', async (content) => {
    const opening = '<|im_start|>assistant\n';
    const [text, labels] = await learnt([{ role: 'assistant', content }, user]);
    expect([text, labels]).toEqual([
      `${opening}${content}<|im_end|>\n`,
      `${'.'.repeat(opening.length)}${content}<|im_end|>\n`,
    ]);
  });

  it('reject a template that changes earlier text, and name the row', async () => {
    const counting: ChatTemplate = (messages) =>
      `${messages.length} ${messages.map(({ content }) => content).join(' ')}`;
    await expect(learnt([user, assistant], counting)).rejects.toThrow(
      /^chat, row 1: expected the chat template to keep/,
    );
  });
});

describe('batches', () => {
  const data = () => encode([{ prompt: 'qq', completion: 'abc' }, { prompt: 'q', completion: 'd' }, { prompt: '', completion: 'ef' }], 8); // oxfmt-ignore
  const table = ({ inputs, labels }: Batch) => ({
    ids: Array.from(inputs['inputIds']?.data ?? []),
    mask: Array.from(inputs['attentionMask']?.data ?? []),
    labels: Array.from(labels.data),
  });

  it('have ids, mask and labels of the same shape', async () => {
    const [first, last] = causalEvaluation(await data(), { batchSize: 2 }).batches as [Batch, Batch];
    expect([first.labels.shape, first.labels.dtype]).toEqual([[2, 3], 'int32']);
    expect(first.inputs['inputIds']?.shape).toEqual([2, 3]);
    expect([first.rows, last.rows]).toEqual([[1, 2], [0]]);
    expect(last.labels.shape).toEqual([1, 6]);
  });

  it('have no labels in padding', async () => {
    const [batch] = causalEvaluation(await data(), { batchSize: 3 }).batches as [Batch];
    const [q, a, b, c, d, e, f] = Array.from('qabcdef', (character) => character.charCodeAt(0));
    expect(batch.rows).toEqual([1, 2, 0]);
    expect(table(batch)).toEqual({
      ids: [q, d, 0, 0, 0, 0, e, f, 0, 0, 0, 0, q, q, a, b, c, 0],
      mask: [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1],
      labels: [-100, d, 0, -100, -100, -100, e, f, 0, -100, -100, -100, -100, -100, a, b, c, 0],
    });
  });

  it('train a causal language model on each row once per epoch', async () => {
    const training = trainingData(await data(), { batchSize: 2, seed: 1 });
    expect(training.kind).toBe('causal-lm');
    const rows = training.epoch(0).flatMap((batch) => batch.rows);
    expect(rows.sort((a, b) => a - b)).toEqual([0, 1, 2]);
    expect(training.epoch(1)).toEqual(trainingData(await data(), { batchSize: 2, seed: 1 }).epoch(1));
  });
});

describe('causalEvaluation', () => {
  const vocabulary = 128;
  const prepared = async () => {
    const data = await encode([{ prompt: 'q', completion: 'ab' }, { prompt: 'long one', completion: 'c' }], 16); // oxfmt-ignore
    const evaluation = causalEvaluation(data, { batchSize: 2 });
    const logits = data.rows.map((_, row) =>
      Float32Array.from({ length: 10 * vocabulary }, (_, at) => Math.sin((row + 1) * at)),
    );
    return { data, evaluation, logits };
  };

  it('computes perplexity over the learnt tokens', async () => {
    const { data, evaluation, logits } = await prepared();
    const losses = data.rows.flatMap(({ labels }, row) =>
      [...labels.subarray(1)].flatMap((label, token) => {
        const own = logits[row]?.subarray(token * vocabulary, (token + 1) * vocabulary) ?? new Float32Array();
        return label < 0 ? [] : [Math.log(own.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (own[label] ?? NaN)];
      }),
    );
    const [sum, tokens] = [losses.reduce((total, loss) => total + loss, 0), losses.length];
    expect(tokens).toBe(5); // a, b, $ and c, $
    const { perplexity, meanLogLikelihood } = evaluation.score(logits);
    expect(perplexity).toBeCloseTo(Math.exp(sum / tokens), 6);
    expect(meanLogLikelihood).toBeCloseTo(-sum / tokens, 8);
    expect([evaluation.primaryMetric, evaluation.lowerIsBetter]).toEqual(['perplexity', true]);
  });

  it('computes the same scores from summaries', async () => {
    const { evaluation, logits } = await prepared();
    const kept = logits.map((row, index) => evaluation.summarise(index, row));
    expect(kept.map(({ length }) => length)).toEqual([2, 2]);
    expect(evaluation.score(kept)['meanLogLikelihood']).toBeCloseTo(
      evaluation.score(logits)['meanLogLikelihood'] ?? NaN,
      5,
    );
  });

  it('rejects outputs of other rows or shapes', async () => {
    const { evaluation, logits } = await prepared();
    expect(() => evaluation.score(logits.slice(1))).toThrow(ShapeError);
    expect(() => evaluation.score(logits.map((row) => row.subarray(1)))).toThrow(ShapeError);
    expect(() => causalEvaluation({ name: 'x', kind: 'causal-lm', rows: [], maxTokens: 4, truncated: 0, dropped: 0 }, { batchSize: 0 })).toThrow(ConfigError); // oxfmt-ignore
  });
});

describe('splitCausal', () => {
  const letters = Array.from({ length: 40 }, (_, row) => ({ text: `${String.fromCharCode(97 + (row % 20))}xyz` }));

  it('sets a share aside, with equal rows on one side', async () => {
    const data = await encode(letters, 5);
    const { train, selection } = splitCausal(data, { share: 0.2, seed: 1 });
    expect([train.rows.length, selection.rows.length]).toEqual([32, 8]);
    const texts = (part: CausalData) => new Set(part.rows.map(({ ids }) => shown(ids)));
    expect([...texts(selection)].filter((text) => texts(train).has(text))).toEqual([]);
    expect([train.name, selection.name]).toEqual(['notes/train', 'notes/selection']);
  });

  it('depends on the seed', async () => {
    const data = await encode(letters, 5);
    expect(splitCausal(data, { seed: 3 })).toEqual(splitCausal(data, { seed: 3 }));
    expect(splitCausal(data, { seed: 3 }).selection.rows).not.toEqual(splitCausal(data, { seed: 4 }).selection.rows);
    expect(() => splitCausal(data, { share: 0.2 } as never)).toThrow(/splitCausal.*'seed'/);
  });

  it('draws a slice by a seed, in order', async () => {
    const data = await encode(letters, 5);
    const slice = sliceCausal(data, 7, 1);
    expect(slice.rows).toHaveLength(7);
    const places = slice.rows.map((row) => data.rows.indexOf(row));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(sliceCausal(data, 7, 1)).toEqual(slice);
    expect(sliceCausal(data, 7, 2).rows).not.toEqual(slice.rows);
    expect(sliceCausal(data, 40, 1)).toBe(data);
    expect(() => sliceCausal(data, 0, 1)).toThrow(ConfigError);
  });

  it('rejects data that cannot be split', async () => {
    const one = await encode([{ text: 'abc' }], 8);
    expect(() => splitCausal(one, { seed: 1 })).toThrow(DataError);
    expect(() => splitCausal(one, { share: 1, seed: 1 })).toThrow(ConfigError);
  });
});
